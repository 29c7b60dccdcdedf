"""The studio: a local page on which a person sees a board sense, teaches it and keeps what it has learned.

The page only calls the library. `project` holds samples, runs and boards, `board_session` one board; `views` show them.
"""
