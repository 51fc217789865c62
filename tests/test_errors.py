from neurosym.errors import Problem, RuleError, did_you_mean


def test_a_problem_prints_as_place_message_and_cure() -> None:
    problem = Problem("unknown relation 'locted_in'", "rules/thorax.rules", 14, 9, "did you mean 'located_in'?")
    assert str(problem) == "rules/thorax.rules:14:9: unknown relation 'locted_in'; did you mean 'located_in'?"


def test_the_place_of_a_problem_in_a_text_that_is_no_file_is_told_in_words() -> None:
    assert str(Problem("no dot", line=2, column=5)) == "line 2, column 5: no dot"
    assert str(Problem("no dot", line=2)) == "line 2: no dot"
    assert str(Problem("no dot", column=5)) == str(Problem("no dot")) == "no dot"
    assert str(Problem("no dot", "x.rules", column=5)) == "x.rules: no dot"


def test_an_error_prints_all_its_problems_one_a_line() -> None:
    error = RuleError([Problem("first", "a.rules", 1), Problem("second")])
    assert str(error) == "a.rules:1: first\nsecond"
    assert [p.message for p in error.problems] == ["first", "second"]


def test_a_name_without_a_near_neighbour_lists_the_choices() -> None:
    assert did_you_mean("zzz", ["product", "goedel"]) == "known: goedel, product"
    assert did_you_mean("zzz", []) == "nothing is declared"
