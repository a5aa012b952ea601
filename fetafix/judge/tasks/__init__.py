"""What an answer means, and when two models give the same one: a comparator a kind of answer.

- `base`: the protocol of a comparator, and the records between it and the judge
- `registry`: those that come with fetafix, and those that other packages bring; `choice`: which one judges what
- `classification` (labels), `segmentation` (class maps), `detection` (boxes), `embedding` (neighbours), `regression`
  (quantities), `tokens` (sequences), `numeric` (numbers as they are: the fallback)
- `scores`: arg max with ties; `boxes`: overlap and matching; `detected`: which outputs make up detections

A wrong guess must do no harm. A comparator is chosen by the outputs' names, shapes and dtypes and by what the source
puts out; where that leaves a doubt, its figures are reported but the numbers decide, as they do for what nobody knows.
Numbers within the source's noise always agree. Another package brings a comparator by an entry point:

    [project.entry-points."fetafix.comparators"]
    captions = "mypackage.captions:Captions"     # a class or a function that makes one without arguments

Those come first in the choice, since whoever installs one means it.
"""
