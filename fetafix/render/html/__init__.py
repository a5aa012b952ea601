"""Reports as pages: one self-contained HTML file, for a reader who knows neither networks nor command lines.

Nothing is loaded and nothing runs: no script, no font, no image but those within the file; the page's own content
security policy forbids the rest. Colours follow the system and can be chosen (radio buttons and CSS alone). Whatever
comes from models and files is text that is escaped by the template engine or by `svg.element`, never markup.

    page        `render(report, journal)` and `render_gate(gate_report)`
    frame       the skeleton and the style sheet, shared with other pages; the template engine
    view        what the template shows, made of a report: plain records
    findings    what each means, what came of it    figures  before and after, files and more as tables
    events      the journal in words
    layers      which layers a chart shows          chart    the error, layer by layer, as SVG
    layout      where a small graph's nodes go      graph    the graph as SVG
    names       text from models: visible, breakable, never cut
"""

from fetafix.render.html.page import render, render_gate

__all__ = ["render", "render_gate"]
