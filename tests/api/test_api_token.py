import os
import stat
from pathlib import Path

import pytest

from edge_agent.api.options import is_token
from edge_agent.api.token import load_or_create_token, read_token
from edge_agent.errors import StoreError


def test_token_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "api-token"
    old_mask = os.umask(0)
    try:
        token = load_or_create_token(path)
    finally:
        os.umask(old_mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert is_token(token.reveal())
    assert load_or_create_token(path) == token == read_token(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["api-token"]


def test_two_gateways_have_different_tokens(tmp_path: Path) -> None:
    assert load_or_create_token(tmp_path / "a") != load_or_create_token(tmp_path / "b")


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620])
def test_token_that_others_can_get_at_is_replaced(tmp_path: Path, mode: int, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "api-token"
    old = load_or_create_token(path)
    path.chmod(mode)
    assert load_or_create_token(path) != old
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert f"mode {mode:04o}, which lets others at it" in caplog.text
    assert old.reveal() not in caplog.text


def test_token_shared_with_a_group_on_purpose_stays(tmp_path: Path) -> None:
    path = tmp_path / "api-token"
    token = load_or_create_token(path)
    path.chmod(0o640)
    assert load_or_create_token(path) == token


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"a" * 15, b"with spaces in between them", b"x" * 5000])
def test_damaged_token_is_replaced(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "api-token"
    path.write_bytes(content)
    path.chmod(0o600)
    assert is_token(load_or_create_token(path).reveal())
    assert "holds no token of 16 characters or more" in caplog.text


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("a-token-of-sixteen-or-more")
    (tmp_path / "api-token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="cannot be read"):
        load_or_create_token(tmp_path / "api-token")


def test_folder_that_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written: No such file or directory"):
        load_or_create_token(tmp_path / "none" / "api-token")


def test_client_without_the_file_has_no_token(tmp_path: Path) -> None:
    assert read_token(tmp_path / "none") is None
