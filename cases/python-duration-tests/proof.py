"""The tests find a parser that counts a minute as 10 seconds.

With the tests of base that needs pytest; where it is not installed, a few lines stand in for it.
"""

import sys
import types
import unittest

sys.path.insert(0, sys.argv[1])
sys.path.insert(0, f"{sys.argv[1]}/tests")
if "pytest" not in sys.modules:
    stand_in = types.ModuleType("pytest")
    stand_in.raises = lambda error, match: unittest.TestCase().assertRaisesRegex(error, match)
    sys.modules["pytest"] = stand_in

import test_duration

import timer.duration


def failures():
    """The number of failed tests, of functions and of test cases."""
    functions = [
        unittest.FunctionTestCase(test) for name, test in vars(test_duration).items() if name.startswith("test_")
    ]
    suite = unittest.TestSuite([unittest.defaultTestLoader.loadTestsFromModule(test_duration), *functions])
    result = unittest.TestResult()
    suite.run(result)
    assert result.testsRun
    return len(result.failures) + len(result.errors)


assert failures() == 0
timer.duration._UNITS["m"] = 10
if failures() == 0:
    sys.exit("all tests pass, although 2m is now 20 seconds")
