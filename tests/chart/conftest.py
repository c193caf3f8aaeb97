"""The chart and what is around it. By hand, with the packages of tests/peers and Debian's `prometheus` (promtool):
`HELM=tests/peers/node_modules/.bin/helm HEEDWELL_BIN=target/debug/heedwell python -m pytest tests/chart`."""

import pytest

from support import SETS, Object, rendered


@pytest.fixture(scope="session", params=SETS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def objects(name: str, tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    return rendered(SETS[name], tmp_path_factory.mktemp("values"))
