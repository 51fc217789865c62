"""The review page: a server for one person on 127.0.0.1 that calls the verbs of `neurosym.review.run` and nothing else.

    serve ─▶ app ─▶ security (who may ask) ─▶ rule_routes, result_routes (what is asked)
                     state (the run, its ledger as it is now) ─▶ listing, rule_page, place, overlay, exports (what is shown)

Pages are rendered here; htmx replaces parts of them, and without it every form and link still works. Nothing is fetched from
elsewhere, and no script stands in a page.
"""
