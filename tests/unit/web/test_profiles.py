"""Which settings hold for a policy whose middleware names a profile or overrides."""

from __future__ import annotations

import pytest

from smw.errors import ConfigError
from smw.settings import SecuritySettings, WebSettings
from smw.testing import isolated
from smw.web import create_cache_middleware, create_monitoring_middleware, create_security_middleware
from smw.web.policies.monitoring import MonitoringSource
from smw.web.policies.security import SecuritySource


def security(runtime, profile=None, **overrides):
    return SecuritySource(profile, overrides).effective(runtime.settings, SecuritySettings)


def test_without_a_word_everything_comes_from_the_runtime():
    """No profile and no override: the runtime's settings."""
    with isolated("production", security={"max_body_bytes": 5}) as runtime:
        told = security(runtime)
    assert (told.rate_limit, told.max_body_bytes) == ("600/minute", 5)


def test_a_profile_replaces_what_the_runtimes_profile_said():
    """Production on a development runtime brings production's limit, and the other way round none."""
    with isolated("development") as runtime:
        assert security(runtime).rate_limit is None
        assert security(runtime, "production").rate_limit == "600/minute"
    with isolated("production") as runtime:
        assert security(runtime, "development").rate_limit is None


def test_arguments_and_environment_of_the_runtime_stay():
    """Only defaults come from a profile, so what was set on purpose is not replaced by one."""
    with isolated("development", security={"rate_limit": "5/minute"}) as runtime:
        assert security(runtime, "production").rate_limit == "5/minute"
    with isolated("development", environ={"SECURITY_RATE_LIMIT": "7/minute"}) as runtime:
        assert security(runtime, "production").rate_limit == "7/minute"


def test_overrides_win_over_everything():
    """What is given to the middleware itself is nearest."""
    with isolated("production", security={"rate_limit": "5/minute"}) as runtime:
        assert security(runtime, "production", rate_limit="9/minute").rate_limit == "9/minute"
        assert security(runtime, rate_limit=None).rate_limit is None


def test_an_override_belongs_to_one_policy():
    """The runtime's own settings stay as they are."""
    with isolated("testing") as runtime:
        source = MonitoringSource(None, {"metrics_path": None})
        assert source.effective(runtime.settings, WebSettings).metrics_path is None
        assert runtime.settings.web.metrics_path == "/metrics"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: create_cache_middleware("producton"), "Did you mean 'production'"),
        (lambda: create_security_middleware("production", rate_limits="1/s"), "Did you mean 'rate_limit'"),
        (lambda: create_security_middleware(max_body_bytes=-1), "max_body_bytes"),
        (lambda: create_security_middleware(rate_limit="often"), "rate"),
        (lambda: create_monitoring_middleware(l1_size=5), "takes no setting 'l1_size'"),
    ],
)
def test_wrong_settings_are_refused_where_they_are_written(make, said):
    """A factory names what is wrong at once, not at the first request."""
    with pytest.raises(ConfigError, match=said):
        make()
