"""Every argument of a judged call is accounted for: classified by its name, or by the names inside it, or refused."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pydantic
import pytest

from smw import errors
from smw.errors import ConfigError
from smw.security import Principal, Security, acting
from smw.security.compliance import catalogue as catalogues

CATALOGUE = {
    "fields": {"user_id": "personal", "diagnosis": "health", "page": "public", "cvv": "card_secret"},
    "purposes": {"p": {"basis": "contract", "classes": ["personal"]}},
    "roles": {"curator": ["personal", "card_secret"]},
    "retention_years": 7,
}


@pytest.fixture
def part(tmp_path):
    made = Security(catalogue=CATALOGUE, mode="enforce", trail_dir=tmp_path / "trail", audit_level="LOW")
    yield made
    made.close()


def refusal(call) -> str:
    """Return what a call lacks; "" where it runs."""
    with acting("ada", purpose="p"):
        try:
            call()
        except errors.Denied as denied:
            return denied.missing
    return ""


@dataclasses.dataclass
class Note:
    user_id: str
    page: int = 1


@dataclasses.dataclass
class Finding:
    user_id: str
    diagnosis: str


@dataclasses.dataclass
class Loose:
    user_id: str
    remark: str


class Model(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    user_id: str


def test_an_unclassified_argument_is_refused(part):
    """One classified argument does not answer for another that nobody classified, default or not."""

    @part.require_compliance(["GDPR"])
    def f(user_id, free_text="", *, page=1):
        return "ok"

    @part.require_compliance(["GDPR"], data=["personal"])
    def described(text):
        return "ok"

    assert "free_text" in refusal(lambda: f("u", "has HIV"))
    assert "free_text" in refusal(lambda: f("u"))
    assert "text" in refusal(lambda: described("has HIV"))


def test_keyword_arguments_are_looked_up_one_by_one(part):
    """What goes into `**more` counts by its own name, and an unknown name in there is refused."""

    @part.require_compliance(["GDPR"])
    def g(user_id, **more):
        return "ok"

    assert refusal(lambda: g("u")) == ""
    assert refusal(lambda: g("u", page=2)) == ""
    assert "health" in refusal(lambda: g("u", diagnosis="HIV"))
    missing = refusal(lambda: g("u", eve_s_secret="HIV"))
    assert "more" in missing
    assert "eve" not in missing
    assert refusal(lambda: g("u")) == ""


def test_positional_rest_needs_a_class(part):
    """Positional arguments without a name are refused unless the catalogue has a class for their parameter."""

    @part.require_compliance(["GDPR"])
    def f(user_id, *rest):
        return "ok"

    @part.require_compliance(["GDPR"])
    def known(*page):
        return "ok"

    assert refusal(lambda: f("u")) == ""
    assert "rest" in refusal(lambda: f("u", "HIV"))
    assert refusal(lambda: known(1, 2)) == ""


@pytest.mark.parametrize(
    ("payload", "lacks"),
    [
        ({"user_id": "u", "page": 3}, ""),
        ({"user_id": {"anything": "below a known name"}}, ""),
        ([{"user_id": "u"}, Note("u")], ""),
        (Note("u"), ""),
        (Model(user_id="u"), ""),
        ({}, ""),
        ({"diagnosis": "HIV"}, "health"),
        ({"DIAGNOSIS": "HIV"}, "health"),
        ({b"diagnosis": "HIV"}, "health"),
        ({"user_id": {"deep": [[{"diagnosis": 1}]]}}, "health"),
        (Finding("u", "HIV"), "health"),
        ((Finding("u", "HIV"),), "health"),
        (Model(user_id="u", diagnosis="HIV"), "health"),
        ({"user_id": "u", "remark": "HIV"}, "payload"),
        (Loose("u", "HIV"), "payload"),
        (Model(user_id="u", remark="HIV"), "payload"),
        ("HIV", "payload"),
        (None, "payload"),
        ([4711], "payload"),
        ({"HIV"}, "payload"),
        (SimpleNamespace(user_id="u"), "payload"),
        (iter(["HIV"]), "payload"),
        ([[{}] for _ in range(30_000)], "payload"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_names_inside_an_argument_count(part, payload, lacks):
    """Mappings, lists, dataclasses and models are judged by the names inside them; what has no class is refused."""

    @part.require_compliance(["GDPR"])
    def h(user_id, payload):
        return "ok"

    found = refusal(lambda: h("u", payload))
    assert (lacks in found) is bool(found or not lacks)
    assert bool(found) is bool(lacks)


def test_a_classified_container_lends_its_class(part):
    """Below a classified name unknown names have its class, and known ones add theirs."""

    @part.require_compliance(["GDPR"])
    def f(user_id):
        return "ok"

    assert refusal(lambda: f({"name": "Eve", "more": [1, {"x": object()}]})) == ""
    assert "health" in refusal(lambda: f({"name": "Eve", "diagnosis": "HIV"}))


def test_card_secrets_inside_a_kept_argument_are_refused(part):
    """An argument that stays readable in the log is looked into for sensitive authentication data."""

    @part.audit_log("charge", keep=("page",))
    @part.require_compliance(["PCI"])
    def charge(page):
        return "ok"

    cashier = Principal(id="ada", roles=frozenset({"curator"}), authentication="mfa", idle_s=1.0)
    with acting(cashier):
        assert charge({"total": 1}) == "ok"
        with pytest.raises(errors.Denied, match="keep="):
            charge({"cvv": "123"})


def test_the_owner_of_a_method_is_no_argument(part):
    """`self` and `cls` need no class; data under such a name does."""

    class Shop:
        @part.require_compliance(["GDPR"])
        def read(self, user_id):
            return "ok"

        @classmethod
        @part.require_compliance(["GDPR"])
        def make(cls, user_id):
            return "ok"

    @part.require_compliance(["GDPR"])
    def odd(self, user_id):
        return "ok"

    assert refusal(lambda: Shop().read("u")) == ""
    assert refusal(lambda: Shop.make("u")) == ""
    assert "self" in refusal(lambda: odd("HIV", "u"))


def test_names_count_however_they_are_spelled(part):
    """Case does not tell two names of the catalogue apart, so two classes for one name are an error."""

    @part.require_compliance(["GDPR"])
    def f(User_ID):  # noqa: N803 - the spelling is the point
        return "ok"

    assert refusal(lambda: f("u")) == ""
    with pytest.raises(ConfigError, match="twice"):
        catalogues.load({"fields": {"cvv": "card_secret", "CVV": "public"}})


@pytest.mark.parametrize("who", ["", " ", "\u200b", None, 5])
def test_nobody_cannot_act(who):
    """A blank name, or something that is none, is refused where the block is opened."""
    with pytest.raises(ConfigError, match="a principal needs an id"), acting(who):
        pass


def test_roles_are_a_copy():
    """Roles given as a list or set are copied, and one text is no list of roles."""
    roles = {"curator"}
    ada = Principal(id="ada", roles=roles)
    roles.clear()
    assert ada.roles == frozenset({"curator"})
    with pytest.raises(ConfigError, match="several names"):
        Principal(id="ada", roles="curator")
