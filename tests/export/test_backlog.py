from edge_agent.export.backlog import Backlog
from edge_agent.metrics import Counter


def test_oldest_goes_when_full_and_is_counted() -> None:
    dropped = Counter()
    backlog: Backlog[int] = Backlog(3, dropped)
    for item in range(5):
        backlog.put(item)
    assert dropped.value == 2
    assert backlog.take(10) == [2, 3, 4]


def test_what_comes_back_keeps_its_place() -> None:
    backlog: Backlog[int] = Backlog(4, Counter())
    for item in range(4):
        backlog.put(item)
    taken = backlog.take(2)
    backlog.put_back(taken)
    assert backlog.take(10) == [0, 1, 2, 3]


def test_what_comes_back_without_room_is_dropped_oldest_first() -> None:
    dropped = Counter()
    backlog: Backlog[int] = Backlog(3, dropped)
    for item in range(3):
        backlog.put(item)
    taken = backlog.take(3)
    backlog.put(3)
    backlog.put(4)
    backlog.put_back(taken)
    assert dropped.value == 2
    assert backlog.take(10) == [2, 3, 4]
