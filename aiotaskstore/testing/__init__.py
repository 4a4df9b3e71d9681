"""For the tests of applications: a store on a database of its own, a clock that moves when told, assertions."""
