"""A handler's signature is its payload: what goes in at enqueue comes out at the run, types kept."""

# ruff: noqa: PLR0917 - a payload may have as many parameters as it likes
from __future__ import annotations

import asyncio
import enum
import functools
import json
import sys
import typing
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, Never, NewType, NotRequired, Optional, TypeVar, Union

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from aiotaskstore import (
    ConfigurationError,
    PayloadError,
    TaskContext,
    TaskDefinition,
    TaskHandler,
    TaskRouter,
    TaskStore,
)
from aiotaskstore.direct import DirectRun
from aiotaskstore.payload import Result

LIMIT = 2**20
UserId = NewType("UserId", int)
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Tone(enum.StrEnum):
    HIGH = "high"


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclass
class Item:
    name: str
    price: Decimal
    tags: list[str] = field(default_factory=list)


class Options(TypedDict):
    retries: int
    label: NotRequired[str]


class Address(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    street: str = Field(alias="streetName")
    post_code: str = Field(validation_alias="postCode", serialization_alias="postCode")


class Tree(BaseModel):
    value: int
    children: list[Tree] = []


class Box(BaseModel, Generic[T]):
    content: T


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    breed: str


def define(handler: Any) -> TaskDefinition[..., Any]:
    definition: TaskDefinition[..., Any] = TaskRouter().task(handler)
    return definition


async def carried(handler: Any, *args: Any, **kwargs: Any) -> Any:
    """Call the handler as a run does: through JSON."""
    definition = define(handler)
    text = definition.payload.encode(args, kwargs, LIMIT)
    json.loads(text)
    arguments = definition.payload.decode(text)
    return await definition.invoke(TaskContext(DirectRun("handler"), None), arguments, anyio.CapacityLimiter(1))


def through(handler: Any, *args: Any, **kwargs: Any) -> Any:
    return asyncio.run(carried(handler, *args, **kwargs))


async def anything(value: Any) -> Any:
    return value


# ── types ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_models_come_back_as_models_whatever_their_aliases():
    async def handler(address: Address, tree: Tree, box: Box[datetime]) -> Any:
        return address, tree, box

    address = Address.model_validate({"streetName": "Main", "postCode": "1000"})
    tree = Tree(value=1, children=[Tree(value=2), Tree(value=3, children=[Tree(value=4)])])
    box = Box[datetime](content=datetime(2024, 2, 29, tzinfo=UTC))
    assert through(handler, address, tree, box) == (address, tree, box)
    by_name = define(handler).payload.encode((), {"address": address, "tree": tree, "box": box}, LIMIT)
    assert json.loads(by_name)["address"] == {"streetName": "Main", "postCode": "1000"}


def test_a_model_is_taken_as_a_mapping_too_as_another_service_would_send_it():
    async def handler(address: Address) -> Any:
        return address

    expected = Address.model_validate({"streetName": "Main", "postCode": "1000"})
    assert through(handler, {"streetName": "Main", "postCode": "1000"}) == expected


def test_dataclasses_typed_dicts_and_named_tuples_keep_their_types():
    async def handler(item: Item, options: Options, point: Point, items: dict[str, list[Item]]) -> Any:
        return item, options, point, items

    item = Item("chair", Decimal("19.90"), ["wood"])
    given_values = (item, {"retries": 3}, Point(1, 2), {"a": [item], "b": []})
    back = through(handler, *given_values)
    assert back == given_values
    assert isinstance(back[0], Item)
    assert isinstance(back[2], Point)
    assert isinstance(back[3]["a"][0].price, Decimal)


def test_scalars_keep_their_types():
    async def handler(
        colour: Colour,
        level: Level,
        tone: Tone,
        at: datetime,
        day: date,
        hour: time,
        wait: timedelta,
        id_: uuid.UUID,
        amount: Decimal,
        raw: bytes,
        path: PurePosixPath,
        user: UserId,
        flag: bool,
        ratio: float,
        nothing: None,
    ) -> Any:
        return (
            colour, level, tone, at, day, hour, wait, id_, amount, raw, path, user, flag, ratio, nothing,
        )  # fmt: skip

    values = (
        Colour.RED,
        Level.HIGH,
        Tone.HIGH,
        datetime(2024, 2, 29, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=3))),
        date(2024, 2, 29),
        time(23, 59, 59, 999999),
        timedelta(days=1, microseconds=1),
        uuid.uuid4(),
        Decimal("0.1000"),
        b"raw",
        PurePosixPath("/tmp/x"),
        UserId(42),
        True,
        0.1,
        None,
    )
    back = through(handler, *values)
    assert back == values
    assert [type(one) for one in back] == [type(one) for one in values]
    assert str(back[8]) == "0.1000"


def test_collections_keep_their_types():
    async def handler(
        tuple_: tuple[int, str],
        many: tuple[datetime, ...],
        set_: set[Colour],
        frozen: frozenset[int],
        queue: deque[int],
        sequence: Sequence[uuid.UUID],
        mapping: Mapping[int, date],
    ) -> Any:
        return tuple_, many, set_, frozen, queue, sequence, mapping

    values = (
        (1, "a"),
        (datetime(2024, 1, 1, tzinfo=UTC),),
        {Colour.RED},
        frozenset({1, 2}),
        deque([1, 2]),
        [uuid.UUID(int=7)],
        {1: date(2024, 1, 1)},
    )
    back = through(handler, *values)
    assert back == values
    assert [type(one) for one in back] == [type(one) for one in values]


def test_optionals_and_unions_come_back_as_the_member_that_went_in():
    async def handler(
        maybe: Optional[int] = None,  # noqa: UP045 - the old spelling is still written
        either: Union[int, str] = 0,  # noqa: UP007
        pet: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None,
        plain: Cat | Dog | None = None,
        instant: datetime | date | None = None,
    ) -> Any:
        return maybe, either, pet, plain, instant

    cat, dog = Cat(lives=9), Dog(breed="pug")
    assert through(handler) == (None, 0, None, None, None)
    assert through(handler, 1, "1", cat, dog, date(2024, 1, 1)) == (1, "1", cat, dog, date(2024, 1, 1))
    back = through(handler, None, 1, dog, cat, datetime(2024, 1, 1, 1, tzinfo=UTC))
    assert back == (None, 1, dog, cat, datetime(2024, 1, 1, 1, tzinfo=UTC))
    assert isinstance(back[1], int)


def test_annotated_constraints_are_checked_at_enqueue():
    async def handler(
        count: Annotated[int, Field(ge=1, le=10)], name: Annotated[str, Field(max_length=3)] = "x"
    ) -> Any:
        return count, name

    assert through(handler, 10, name="abc") == (10, "abc")
    with pytest.raises(PayloadError, match="count: Input should be greater than or equal to 1"):
        through(handler, 0)
    with pytest.raises(PayloadError, match="name: String should have at most 3 characters"):
        through(handler, 1, name="abcd")


def test_local_classes_are_found_although_annotations_are_text():
    class Local(BaseModel):
        value: int

    @dataclass
    class Other:
        at: datetime

    async def handler(local: Local, others: list[Other]) -> Any:
        return local, others

    values = (Local(value=1), [Other(datetime(2024, 1, 1, tzinfo=UTC))])
    back = through(handler, *values)
    assert back == values
    assert isinstance(back[0], Local)


def test_classes_local_to_an_outer_function_are_found_too():
    class Local(BaseModel):
        value: int

    def declare() -> TaskDefinition[..., Any]:
        async def handler(local: Local) -> Any:
            return local

        return define(handler)

    definition = declare()
    assert definition.payload.decode(definition.payload.encode((Local(value=1),), {}, LIMIT)) == {
        "local": Local(value=1)
    }


def test_types_nobody_can_find_are_refused_with_what_to_do():
    async def handler(value: NowhereToBeFound) -> None:  # type: ignore[name-defined] # noqa: F821 - the point
        pass

    with pytest.raises(ConfigurationError, match=r"annotations of the handler.*NowhereToBeFound.*Import the type"):
        through(handler, 1)


class Opaque:
    """Pydantic knows nothing of it."""


def test_a_payload_that_pydantic_cannot_handle_is_refused_where_it_is_declared():
    async def handler(value: Opaque) -> None:
        pass

    router = TaskRouter()
    with pytest.raises(
        ConfigurationError, match=r'payload of "handler" has a type that pydantic cannot handle.*Opaque'
    ):
        router.task(handler)
    assert router.handlers == []


async def test_a_handler_may_be_called_directly_whatever_it_returns_but_its_runs_fail():
    async def handler() -> list[Opaque]:
        return [Opaque()]

    definition = define(handler)
    assert isinstance((await definition())[0], Opaque)
    with pytest.raises(ConfigurationError, match=r'result of "handler" has a type that pydantic cannot handle.*Opaque'):
        definition.result.encode([], LIMIT)


def test_a_class_handler_is_refused_where_it_is_included():
    class Payload(TaskHandler):
        async def handle(self, context: TaskContext, value: Opaque) -> None:
            raise NotImplementedError

    with pytest.raises(ConfigurationError, match=r"a type that pydantic cannot handle.*Opaque"):
        TaskStore("sqlite://").include(Payload())


def test_a_type_may_be_defined_below_the_handler_and_the_types_that_use_it():
    definition = define(takes_types_of_below)
    value, other = Below(1), Above(Below(2))
    back = definition.payload.decode(definition.payload.encode((value, other), {}, LIMIT))
    assert back == {"value": value, "other": other}
    EARLY.check_types()


@dataclass
class Above:
    below: Below


async def takes_types_of_below(value: Below, other: Above) -> Below:
    raise NotImplementedError


EARLY: TaskDefinition[..., Any] = TaskRouter().task(takes_types_of_below)
"""Declared while `Below` is not there yet."""


@dataclass
class Below:
    number: int


@dataclass
class Holder:
    held: NotThere  # type: ignore[name-defined] # noqa: F821 - the point


async def takes_a_holder(holder: list[Holder]) -> None:
    raise NotImplementedError


def test_a_name_that_a_type_of_the_payload_cannot_find_is_refused_at_the_first_use():
    definition = define(takes_a_holder)
    with pytest.raises(ConfigurationError, match=r"takes_a_holder.*NotThere.*Import the type at run time"):
        definition.draft([])


# ── signatures ────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_kind_of_parameter_reaches_its_place():
    async def handler(a: int, b: int = 2, /, c: int = 3, *, d: int, e: int = 5) -> Any:
        return a, b, c, d, e

    assert through(handler, 1, d=4) == (1, 2, 3, 4, 5)
    assert through(handler, 10, 20, 30, d=40, e=50) == (10, 20, 30, 40, 50)
    assert through(handler, 1, c=7, d=8) == (1, 2, 7, 8, 5)


def test_positional_only_parameters_that_were_left_out_take_their_defaults():
    """By alias, another service may name the second and not the first."""

    async def handler(a: int = 1, b: int = 2, /) -> Any:
        return a, b

    definition = define(handler)
    arguments = definition.payload.decode(definition.payload.encode_values({"b": 5}, LIMIT))
    assert asyncio.run(
        definition.invoke(TaskContext(DirectRun("handler"), None), arguments, anyio.CapacityLimiter(1))
    ) == (1, 5)


def test_defaults_stay_the_handlers_own_so_that_new_code_decides_for_old_rows():
    async def handler(a: int, b: datetime = datetime(2024, 1, 1, tzinfo=UTC)) -> Any:
        return a, b

    assert define(handler).payload.encode((1,), {}, LIMIT) == '{"a":1}'
    assert through(handler, 1) == (1, datetime(2024, 1, 1, tzinfo=UTC))


def test_a_default_outside_its_own_type_is_the_handlers_business():
    async def handler(a: int = None) -> Any:  # type: ignore[assignment] # noqa: RUF013 - people write it
        return a

    assert through(handler) is None


def test_free_keywords_travel_with_their_type():
    async def loose(a: int, **more: Any) -> Any:
        return a, more

    async def typed(**at: datetime) -> Any:
        return at

    assert through(loose, 1, b="x", c=[1]) == (1, {"b": "x", "c": [1]})
    instant = datetime(2024, 1, 1, tzinfo=UTC)
    assert through(typed, start=instant, end=instant) == {"start": instant, "end": instant}
    with pytest.raises(PayloadError, match="start"):
        through(typed, start="not an instant")


def test_parameters_without_annotations_take_any_json():
    async def handler(a, b=None):
        return a, b

    assert through(handler, {"x": [1, None, "y"]}) == ({"x": [1, None, "y"]}, None)


def test_a_handler_without_parameters_has_an_empty_payload():
    async def handler() -> str:
        return "done"

    assert define(handler).payload.encode((), {}, LIMIT) == "{}"
    assert through(handler) == "done"


def test_names_that_look_special_are_names_like_any_other():
    async def handler(fields: int, self: int, cls: int, model_config: int, _private: int, type_: int, json: int) -> Any:
        return fields, self, cls, model_config, _private, type_, json

    assert through(handler, 1, 2, 3, 4, 5, 6, 7) == (1, 2, 3, 4, 5, 6, 7)


def test_a_leading_context_is_injected_and_no_part_of_the_payload():
    async def handler(context: TaskContext, a: int, /, b: int = 2) -> Any:
        return type(context).__name__, a, b

    assert define(handler).payload.encode((1,), {}, LIMIT) == '{"a":1}'
    assert through(handler, 1, b=3) == ("TaskContext", 1, 3)


def test_sync_handlers_take_the_same_payloads():
    def handler(a: int, /, *, at: datetime) -> Any:
        return a, at

    assert through(handler, 1, at=datetime(2024, 1, 1, tzinfo=UTC)) == (1, datetime(2024, 1, 1, tzinfo=UTC))


def test_objects_with_a_call_method_are_handlers_too():
    class Greeter:
        __name__ = "greeter"

        async def __call__(self, name: str, times: int = 1) -> str:
            return name * times

    assert through(Greeter(), "x", times=3) == "xxx"


# ── what does not fit ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "a: Field required"),
        (("x",), {}, "a: Input should be a valid integer"),
        ((1, 2, 3), {}, "3 positional arguments were given"),
        ((1,), {"a": 2}, "a was given twice"),
        ((1,), {"z": 2}, "z: Extra inputs are not permitted"),
        ((1,), {"b": {"c": 1}}, "b: Input should be a valid string"),
        ((1.5,), {}, "a: Input should be a valid integer"),
    ],
)
def test_what_does_not_fit_the_signature_is_refused_with_what_was_expected(args, kwargs, words):
    async def handler(a: int, b: str = "x") -> None:
        pass

    with pytest.raises(PayloadError) as refused:
        through(handler, *args, **kwargs)
    assert words in str(refused.value)
    assert 'The payload of "handler" does not fit' in str(refused.value)
    assert "Expected (a: 'int', b: 'str' = 'x')" in str(refused.value)


def test_many_misfits_are_counted_not_listed():
    async def handler(values: list[int]) -> None:
        pass

    with pytest.raises(PayloadError, match=r"values.0.*values.4.*and 95 more"):
        through(handler, ["x"] * 100)


@pytest.mark.parametrize(
    "value",
    [object(), lambda: 1, {1: object()}, [{"deep": [object()]}], b"\xff", asyncio, type],
)
@pytest.mark.acceptance("A63")
def test_what_cannot_be_json_is_refused(value):
    with pytest.raises(PayloadError, match='The payload of "anything" cannot be written as JSON'):
        through(anything, value)


def test_what_contains_itself_is_refused():
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(PayloadError, match="cannot be written as JSON"):
        through(anything, loop)


def test_numbers_that_cannot_be_read_back_are_refused():
    with pytest.raises(PayloadError):
        through(anything, 10**5000)
    assert through(anything, 10**400) == 10**400


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_are_refused_wherever_they_stand(number):
    class Reading(BaseModel):
        value: float = 0
        more: Any = None

    class Careless(BaseModel):
        model_config = ConfigDict(ser_json_inf_nan="constants")

        value: float

    @dataclass
    class Sample:
        value: float

    async def handler(
        plain: float = 0,
        reading: Reading | None = None,
        careless: Careless | None = None,
        sample: Sample | None = None,
        free: Any = None,
        numbers: list[float] | None = None,
    ) -> None:
        pass

    for kwargs in (
        {"plain": number},
        {"reading": Reading(value=number)},
        {"reading": Reading(more={"deep": [number]})},
        {"careless": Careless(value=number)},
        {"sample": Sample(number)},
        {"free": number},
        {"free": {"deep": [None, {"deeper": (1, number)}]}},
        {"free": Reading(value=number)},
        {"free": Careless(value=number)},
        {"numbers": [1.0, number]},
    ):
        with pytest.raises(PayloadError, match=r"NaN|finite|infinity"):
            through(handler, **kwargs)


def test_nulls_beside_which_no_nan_stands_are_fine():
    assert through(anything, {"null": None, "NaN": "NaN", "text": "null Infinity"}) == {
        "null": None,
        "NaN": "NaN",
        "text": "null Infinity",
    }


@pytest.mark.parametrize("value", ["\0", "a\0b", {"key\0": 1}, ["x", {"y": "\\\0"}], "\\\\\0"])
def test_a_nul_character_is_refused_wherever_it_stands(value):
    with pytest.raises(PayloadError, match="NUL"):
        through(anything, value)


@pytest.mark.parametrize("value", ["\\u0000", "\\\\u0000", "\\x00", "u0000", {"\\u0000": "\\\\\\u0000"}])
def test_text_that_only_looks_like_a_nul_is_fine(value):
    assert through(anything, value) == value


@pytest.mark.parametrize("value", ["\ud800", ["a\udfff"], {"\ud83d": 1}, {"x": "\udc80"}])
def test_lone_surrogates_are_refused_wherever_they_stand(value):
    with pytest.raises(PayloadError):
        through(anything, value)

    async def typed(value: str) -> None:
        pass

    if isinstance(value, str):
        with pytest.raises(PayloadError):
            through(typed, value)


def test_a_payload_up_to_the_limit_fits_and_one_byte_more_does_not(caplog):
    definition = define(anything)
    framing = len('{"value":""}')
    assert len(definition.payload.encode(("x" * (LIMIT - framing),), {}, LIMIT)) == LIMIT
    with pytest.raises(PayloadError, match=r"is 1,048,577 bytes of JSON, and the limit is 1,048,576.*reference"):
        definition.payload.encode(("x" * (LIMIT - framing + 1),), {}, LIMIT)
    with pytest.raises(PayloadError, match="the limit is 1,048,576"):
        definition.payload.encode(("é" * (LIMIT // 2),), {}, LIMIT)


@pytest.mark.acceptance("A135")
def test_a_large_payload_is_warned_about(caplog):
    definition = define(anything)
    definition.payload.encode(("x" * 90_000,), {}, LIMIT)
    assert not caplog.records
    definition.payload.encode(("x" * 110_000,), {}, LIMIT)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "110,012 bytes of JSON" in caplog.text


# ── decoding what old code stored ─────────────────────────────────────────────────────────────────────────────


def test_rows_that_new_code_cannot_read_are_payload_errors():
    async def handler(a: int) -> None:
        pass

    definition = define(handler)
    for text in ("{}", '{"a": "x"}', '{"a": 1, "gone": 2}', "[]", "null", "not json", '{"a": NaN}'):
        with pytest.raises(PayloadError, match="does not fit"):
            definition.payload.decode(text)


# ── results ───────────────────────────────────────────────────────────────────────────────────────────────────


def result(handler: Any) -> Result:
    return Result(handler, "handler")


def test_results_come_back_as_the_declared_type():
    class Local(BaseModel):
        at: datetime

    async def handler() -> dict[str, list[Local | Item]]:
        raise NotImplementedError

    value = {"a": [Local(at=datetime(2024, 1, 1, tzinfo=UTC)), Item("x", Decimal("1.0"))]}
    assert result(handler).decode(result(handler).encode(value, LIMIT)) == value


def test_results_without_a_declared_type_are_plain_json():
    async def handler():
        raise NotImplementedError

    value = {"at": datetime(2024, 1, 1, tzinfo=UTC), "colour": Colour.RED}
    assert result(handler).decode(result(handler).encode(value, LIMIT)) == {
        "at": "2024-01-01T00:00:00Z",
        "colour": "red",
    }


def test_nothing_is_a_result_where_nothing_may_be_returned():
    async def none() -> None: ...
    async def optional() -> int | None: ...
    async def anything() -> Any: ...
    async def undeclared(): ...
    async def never() -> Never:
        raise NotImplementedError

    for handler in (none, optional, anything, undeclared, never):
        assert result(handler).may_be_none
        assert result(handler).encode(None, LIMIT) == "null"
        assert result(handler).decode("null") is None

    async def number() -> int:
        raise NotImplementedError

    assert not result(number).may_be_none
    with pytest.raises(PayloadError, match="declares to return int, and returned NoneType"):
        result(number).encode(None, LIMIT)


@pytest.mark.parametrize(
    ("declared", "value"),
    [
        (int, "x"), (int, 1.5), (str, 5), (list[int], [1, "x"]), (Address, {"street": 1}), (tuple[int, int], [1]),
        (Point, {"y": 1}), (Options, {}), (Colour, "no colour"), (datetime, "yesterday"), (None, 5), (bool, None),
        (Annotated[int, Field(gt=0)], 0), (Literal["a"], "b"), (dict[str, int], {"a": None}),
        (Cat | Dog, {"kind": "cow"}),
    ],
    ids=str,
)  # fmt: skip
def test_a_result_that_nobody_could_read_is_refused_before_it_is_stored(declared: Any, value: Any):
    async def handler() -> Any:
        raise NotImplementedError

    handler.__annotations__["return"] = declared
    with pytest.raises(PayloadError, match=r'The result of "handler" does not fit: .*declares to return .* returned'):
        result(handler).encode(value, LIMIT)


def test_a_model_that_was_made_wrong_after_its_validation_is_refused():
    async def handler() -> Cat:
        raise NotImplementedError

    cat = Cat(lives=9)
    assert result(handler).decode(result(handler).encode(cat, LIMIT)) == cat
    cat.lives = "many"  # type: ignore[assignment]
    with pytest.raises(PayloadError, match="lives: Input should be a valid integer"):
        result(handler).encode(cat, LIMIT)


def test_an_output_is_the_result_of_a_handler_that_declares_none():
    async def none() -> None: ...
    async def text() -> str | None: ...
    async def number() -> int | None: ...

    for handler in (none, text):
        stored = result(handler).encode_output("told", LIMIT)
        assert stored == '"told"'
        assert result(handler).decode(stored) == "told"
    with pytest.raises(PayloadError, match="does not fit"):
        result(number).encode_output("told", LIMIT)


@pytest.mark.parametrize("name", ["self", "cls"])
def test_a_method_of_nobody_is_refused_when_it_is_declared(name: str):
    names: dict[str, Any] = {}
    exec(f"async def send({name}, n: int): ...", names)
    with pytest.raises(ConfigurationError, match=f'takes "{name}" first, so it is a method.*outside the class'):
        define(names["send"])


def test_the_method_of_an_object_is_a_handler():
    class Mailer:
        async def send(self, name: str) -> str:
            return name

    assert through(Mailer().send, "x") == "x"


def test_generators_are_refused_however_they_are_dressed():
    class Streams:
        __name__ = "streams"

        async def __call__(self, n: int) -> Any:
            yield n

    async def stream(n: int) -> Any:
        yield n

    partial = functools.partial(stream, n=1)
    functools.update_wrapper(partial, stream)
    for handler in (Streams(), stream, partial):
        with pytest.raises(ConfigurationError, match="is a generator, and a task has one result"):
            define(handler)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "NaN"),
        ({"deep": [float("inf")]}, "NaN or infinity"),
        ("\0", "NUL"),
        ("\ud800", "cannot be written as JSON"),
        (object(), "cannot be written as JSON"),
        ("x" * LIMIT, "the limit is 1,048,576"),
    ],
)
def test_results_that_cannot_be_stored_are_refused(value, words):
    async def handler() -> Any:
        raise NotImplementedError

    with pytest.raises(PayloadError, match=f'The result of "handler".*{words}'):
        result(handler).encode(value, LIMIT)


def test_a_stored_result_that_is_not_what_the_handler_declares_is_a_payload_error():
    async def handler() -> int:
        raise NotImplementedError

    with pytest.raises(PayloadError, match='stored result of "handler" is not what the handler declares to return'):
        result(handler).decode('"x"')


# ── anything at all ───────────────────────────────────────────────────────────────────────────────────────────

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


async def everything(
    number: int,
    ratio: float,
    text: str,
    flag: bool,
    at: datetime,
    day: date,
    wait: timedelta,
    id_: uuid.UUID,
    amount: Decimal,
    colour: Colour,
    item: Item,
    tree: Tree,
    free: Any,
    either: int | str | None,
    lists: dict[str, list[float]],
) -> Any:
    return locals()


EVERYTHING = define(everything)


@given(
    st.fixed_dictionaries(
        {
            "number": st.integers(),
            "ratio": st.floats(allow_nan=False, allow_infinity=False),
            "text": TEXTS,
            "flag": st.booleans(),
            "at": st.datetimes(timezones=st.just(UTC)),
            "day": st.dates(),
            "wait": st.timedeltas(timedelta(days=-10_000), timedelta(days=10_000)),
            "id_": st.uuids(),
            "amount": st.decimals(allow_nan=False, allow_infinity=False, places=4),
            "colour": st.sampled_from(Colour),
            "item": st.builds(
                Item, TEXTS, st.decimals(allow_nan=False, allow_infinity=False), st.lists(TEXTS, max_size=3)
            ),
            "tree": st.builds(
                lambda value, children: Tree(value=value, children=[Tree(value=one) for one in children]),
                st.integers(),
                st.lists(st.integers(), max_size=3),
            ),
            "free": JSON,
            "either": st.integers() | TEXTS | st.none(),
            "lists": st.dictionaries(
                TEXTS, st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3), max_size=3
            ),
        }
    )
)
def test_whatever_is_stored_comes_back_the_same(values):
    back = EVERYTHING.payload.decode(EVERYTHING.payload.encode((), values, LIMIT))
    assert back == values
    assert {name: type(one) for name, one in back.items()} == {name: type(one) for name, one in values.items()}


@given(
    st.recursive(
        st.none() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    )
)
def test_whatever_is_given_is_stored_as_it_is_or_refused(value):
    definition = ANYTHING
    try:
        text = definition.payload.encode((value,), {}, LIMIT)
    except PayloadError:
        return
    text.encode()
    assert "\0" not in json.dumps(json.loads(text), ensure_ascii=False)
    assert definition.payload.decode(text) == {"value": value}


ANYTHING = define(anything)


class Old(typing.TypedDict):
    a: int


@dataclass
class Outer:
    inner: dict[str, Old]


def test_typed_dicts_of_old_pythons_are_refused_where_the_handler_is_declared_with_what_to_do():
    async def plain(value: Old) -> Any:
        return value

    async def nested(value: list[Old] | None) -> Any:
        return value

    async def within(value: Outer) -> Any:
        return value

    given_to = {plain: {"a": 1}, nested: [{"a": 1}], within: Outer({"x": {"a": 1}})}
    for handler, value in given_to.items():
        if sys.version_info >= (3, 12):
            assert through(handler, value) == value
        else:
            with pytest.raises(ConfigurationError, match=r"typing\.TypedDict.*from typing_extensions import TypedDict"):
                define(handler)
