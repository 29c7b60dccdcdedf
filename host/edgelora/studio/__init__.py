"""The studio: a local page on which a person sees a board sense, teaches it and keeps what it has learned.

The page only calls the library. `desk` holds a project and its boards, `place` one board; `views` show them.
"""
