"""`fetafix review`: a person reads what a repair proposes, decides entry by entry, and has the approved ones applied.

    run.py          what is reviewed: a run folder or a plan, its report, journal, models and samples
    proposals.py    an entry of the plan with everything that a person wants to know about it
    decisions.py    decisions into the plan and the journal, several people and programs at once
    applying.py     the approved entries, written and proved by `repair`
    page.py         the page; server.py serves it, to this machine and to whoever knows its address alone
    terminal.py     the same in a terminal or a pipe

All ways lead to the same file, the plan: whatever decides there, `repair --apply --plan` takes the result.
"""
