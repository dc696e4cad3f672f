"""Controls, their vectors, the engine, the data catalogue, the names of frameworks."""

from __future__ import annotations

import dataclasses
import re
from collections import namedtuple
from decimal import Decimal
from pathlib import Path

import pytest

from smw.errors import ConfigError, DecorationError
from smw.security import Principal, acting
from smw.security.compliance import catalogue as catalogues
from smw.security.compliance.catalogue import CLASSES, Catalogue
from smw.security.compliance.engine import CONTROLS, Judge
from smw.security.compliance.model import Case, Control, Vector
from smw.security.compliance.names import FRAMEWORKS, frameworks_of
from smw.security.compliance.results import field_names
from smw.security.context import current_acting

ALL = [control for controls in CONTROLS.values() for control in controls]
each_control = pytest.mark.parametrize("control", ALL, ids=lambda control: control.id)


def verdict(control: Control, vector: Vector):
    content = catalogues.load(vector.catalogue)
    assert content is not None
    facts = {"classes": frozenset(vector.classes), "purpose": vector.purpose, "catalogue": content, **vector.more}
    if vector.acting is None:
        return control.evaluate(Case(acting=None, **facts))
    with acting(**vector.acting) as context:
        return control.evaluate(Case(acting=context, **facts))


@each_control
def test_passing_vector_passes(control):
    """The call that the control's own data calls good passes, and leaves the evidence it announces."""
    found = verdict(control, control.passing)
    assert found.result == "allow", found
    assert set(found.evidence) == set(control.evidence)


@each_control
def test_failing_vector_fails(control):
    """The call that the control's own data calls bad does not pass, and the verdict names what is missing."""
    found = verdict(control, control.failing)
    assert found.result != "allow"
    assert control.failing.missing
    assert control.failing.missing in found.missing


@each_control
def test_control_is_well_formed(control):
    """A control has a name in its framework, a clause, a title and data classes that exist."""
    assert re.fullmatch(r"(gdpr|sox|hipaa|pci)\.[a-z]+", control.id)
    assert control.clause
    assert control.title
    assert control.applies <= CLASSES.keys()


@each_control
def test_nothing_known_never_passes_a_control_of_persons(control):
    """Without principal, purpose, durable log and result search no control of the framework passes by default."""
    empty = Catalogue()
    case = Case(
        classes=frozenset({"card_secret", "health", "financial", "personal"}),
        acting=None,
        purpose=None,
        catalogue=empty,
        kept=frozenset({"card_secret"}),
        durable=False,
    )
    assert control.evaluate(case).result != "allow"


def test_ids_are_unique_and_every_framework_has_a_handful():
    """Each framework has at least four controls and no two share a name."""
    assert len({control.id for control in ALL}) == len(ALL)
    assert set(CONTROLS) == set(FRAMEWORKS)
    assert all(len(controls) >= 4 for controls in CONTROLS.values())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["GDPR", "SOX"], ("GDPR", "SOX")),
        (["PCI-DSS"], ("PCI",)),
        (["pci_dss", "PCI", "PCI DSS"], ("PCI",)),
        (("hipaa",), ("HIPAA",)),
    ],
)
def test_spellings_of_frameworks(given, meant):
    """PCI-DSS, PCI_DSS and PCI are one; case does not matter; each counts once."""
    assert frameworks_of(given) == meant


@pytest.mark.parametrize(
    ("given", "hint"), [(["GDRP"], "Did you mean 'GDPR'"), ([], "no framework"), ("GDPR", "a list"), (["x"], "unknown")]
)
def test_wrong_frameworks_are_refused(given, hint):
    """An unknown name, an empty list or a bare text is an error at decoration, with the nearest name."""
    with pytest.raises(DecorationError, match=hint):
        frameworks_of(given)


def judge(frameworks=("GDPR",), classes=("personal",), catalogue=None, **options) -> Judge:
    given = {"purpose": None, "kept": frozenset(), "durable": lambda: True} | options
    return Judge(frameworks, classes=frozenset(classes), catalogue=catalogue, **given)


REGISTER = Catalogue.model_validate({"purposes": {"play": {"basis": "contract", "classes": ["personal"]}}})


def test_no_catalogue_refuses_everything():
    """Without a data catalogue nothing can be judged, so nothing passes, and the setting is named."""
    found = judge(("GDPR", "SOX")).before(None)
    assert len(found.failures) >= 5
    assert all("security.catalogue" in failure.missing for failure in found.failures)


def test_unknown_data_refuses_everything():
    """A function whose data nobody classified does not pass as if it had none."""
    found = judge(classes=(), catalogue=REGISTER).before(None)
    assert found.failures
    assert all("data=" in failure.missing for failure in found.failures)


def test_purpose_of_the_decorator_wins():
    """A purpose fixed at the function is not replaced by the acting party's."""
    with acting("ada", purpose="anything") as context:
        fixed = judge(catalogue=REGISTER, purpose="play")
        assert fixed.before(context).failures == ()
        assert fixed.purpose_of(context) == "play"
        assert judge(catalogue=REGISTER).before(context).failures


def test_judgement_follows_the_acting_party():
    """A judgement is never reused for another acting party."""
    one = judge(catalogue=REGISTER)
    with acting("ada", purpose="play") as good:
        assert one.before(good).failures == ()
        assert one.before(good).failures == ()
    with acting("ada", purpose="other") as bad:
        assert one.before(bad).failures
    assert one.before(None).failures
    assert one.before(good).failures == ()


def test_controls_that_do_not_apply_are_left_out():
    """A control for special categories is not asked about ordinary personal data."""
    one = judge(catalogue=REGISTER)
    assert "gdpr.special" not in {control.id for control in one.controls_for(frozenset({"personal"}))}
    assert "gdpr.special" in {control.id for control in one.controls_for(frozenset({"health"}))}


def test_public_data_needs_no_grant():
    """Data classified as public passes purposes and roles."""
    cashier = Catalogue.model_validate({"roles": {"cashier": ["card"]}})
    found = judge(("PCI",), classes=("public",), catalogue=cashier)
    with acting("ada") as context:
        results = found.before(context).results
    assert "pci.role:allow" in results


CARDS = Catalogue.model_validate({"fields": {"cvv": "card_secret", "name": "personal"}})


@pytest.mark.parametrize(
    ("result", "refused"),
    [
        ({"name": "Ada"}, False),
        ({"card": {"cvv": "123"}}, True),
        ([{"name": "x"}, {"cvv": None}], True),
        ((1, Decimal(2), "cvv"), False),
        (None, False),
        (iter([{"cvv": 1}]), True),
        (namedtuple("Card", "name cvv")("a", "b"), True),  # noqa: PYI024 - the plain kind is the point
    ],
)
def test_results_are_searched_for_card_secrets(result, refused):
    """PCI looks for sensitive authentication data in what a function returns; what it cannot see it refuses."""
    assert bool(judge(("PCI",), classes=("card",), catalogue=CARDS).after(None, result).failures) is refused


def test_kept_card_secrets_are_refused():
    """An allow-list that would write a verification code into the log does not pass."""
    found = judge(("PCI",), classes=("card",), catalogue=CARDS, kept=frozenset({"card_secret"})).before(None)
    assert "pci.sad" in {failure.control for failure in found.failures}


def test_field_names_of_objects():
    """Dataclasses, models and plain objects give their field names, cycles end."""

    @dataclasses.dataclass
    class Card:
        cvv: str
        more: object = None

    class Plain:
        def __init__(self) -> None:
            self.inner = Card("1")

    loop: dict[str, object] = {"a": 1}
    loop["self"] = loop
    assert field_names(Card("1", Plain())) == (frozenset({"cvv", "more", "inner"}), True)
    assert field_names(loop) == (frozenset({"a", "self"}), True)
    assert field_names(object()) == (frozenset(), False)
    assert field_names({1: {"x": {Decimal(1)}}})[0] == {"x"}


def test_search_is_bounded():
    """A huge result is given up as not searched, not walked for ever."""
    assert field_names([[i] for i in range(50_000)])[1] is False


def test_catalogue_from_toml(tmp_path: Path):
    """A TOML file reads like the mapping, and its digest tells contents apart."""
    file = tmp_path / "data.toml"
    file.write_text(
        '[fields]\nuser_id = "personal"\n[purposes.play]\nbasis = "contract"\nclasses = ["personal"]\n'
        '[roles]\ncurator = ["personal"]\n'
    )
    read = catalogues.load(file)
    same = catalogues.load(
        {
            "roles": {"curator": ["personal"]},
            "purposes": {"play": {"classes": ["personal"], "basis": "contract"}},
            "fields": {"user_id": "personal"},
        }
    )
    assert read == same
    assert read is not None
    assert same is not None
    assert read.digest == same.digest
    assert read.digest != REGISTER.digest
    assert catalogues.load(None) is None


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ({"feilds": {}}, "Did you mean 'fields'"),
        ({"fields": {"x": "persnal"}}, "Did you mean 'personal'"),
        ({"purposes": {"p": {"basis": "because"}}}, "purposes.p.basis"),
        ({"purposes": {"p": {"basis": "contract", "clases": []}}}, "Did you mean 'classes'"),
    ],
)
def test_wrong_catalogue_names_the_entry(content, hint):
    """A wrong entry of the catalogue is one error that names it and the nearest valid name."""
    with pytest.raises(ConfigError, match=re.escape(hint)):
        catalogues.load(content)


def test_unreadable_catalogue(tmp_path: Path):
    """A missing file and a file that is no TOML are errors that name the setting."""
    with pytest.raises(ConfigError, match=r"security\.catalogue cannot be read"):
        catalogues.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("= 1")
    with pytest.raises(ConfigError, match="no TOML"):
        catalogues.load(tmp_path / "bad.toml")


def test_acting_nests_and_ends():
    """An inner block replaces the outer one, inherits only the source, and ends with the block."""
    assert current_acting() is None
    with acting("ada", purpose="play", source="192.0.2.1"):
        with acting("bob", subjects="eve", earlier=["x"], consents={"play": "r"}) as inner:
            assert current_acting() is inner
            assert (inner.principal.id, inner.purpose, inner.source) == ("bob", None, "192.0.2.1")
            assert inner.subjects == ("eve",)
            assert inner.earlier == {"x"}
        assert current_acting().principal.id == "ada"
    assert current_acting() is None


def test_consents_are_a_copy():
    """What the caller does to its mapping afterwards does not change what was said."""
    receipts = {"play": "r-1"}
    with acting("ada", consents=receipts) as context:
        receipts.clear()
        assert context.consents == {"play": "r-1"}


SHARED = ["Front-Desk", "admin"]


@pytest.mark.parametrize(
    "name",
    ["Front-Desk", "front-desk", "FRONT-DESK ", "Admin", " admin", "\uff21\uff24\uff2d\uff29\uff2e", "adm\u200bin"],
)
def test_a_shared_id_is_nobody_however_it_is_spelled(name):
    """Case, space, invisible characters and wide letters do not make a shared id somebody's own."""
    desk = Catalogue.model_validate({"shared_ids": SHARED, "roles": {"clerk": ["personal"]}})
    with acting(Principal(id=name, roles=frozenset({"clerk"}))) as context:
        results = judge(("SOX", "PCI"), catalogue=desk).before(context).results
    assert {"sox.identity:deny", "pci.unique:deny"} <= set(results)


@pytest.mark.parametrize("idle_s", [float("nan"), -1, -0.001, float("inf"), "5"])
def test_a_senseless_idle_time_is_refused(idle_s):
    """A time since the last activity that is none does not pass as a fresh session."""
    with acting(Principal(id="ada", idle_s=idle_s)) as context:
        results = judge(("HIPAA", "PCI"), catalogue=REGISTER).before(context).results
    assert not {"hipaa.idle:allow", "pci.idle:allow"} & set(results)


@pytest.mark.parametrize("earlier", ["bob", "BOB", " Bob", "\uff22ob"])
def test_a_checker_is_no_maker_in_other_spelling(earlier):
    """Nobody approves their own work by writing their name differently."""
    books = Catalogue.model_validate({"incompatible": [["a", "b"]]})
    one = judge(("SOX",), classes=("financial",), catalogue=books)
    with acting("Bob", earlier=[earlier]) as context:
        assert "sox.duties:deny" in one.before(context).results
    with acting("Bob", earlier=["eve"]) as context:
        assert "sox.duties:allow" in one.before(context).results


@pytest.mark.parametrize("ticket", ["", " ", "\u200b", None])
def test_a_blank_ticket_is_none(ticket):
    """A posting needs a ticket in which something is written."""
    books = Catalogue.model_validate({"open_periods": ["2026-07"]})
    with acting("bob", ticket=ticket, period="2026-07") as context:
        assert "sox.period:deny" in judge(("SOX",), classes=("financial",), catalogue=books).before(context).results
