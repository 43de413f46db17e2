import hashlib

from data.dataset_card import CARD_FILE, write_card


def test_facts_become_rows_and_a_file_names_the_set(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"x")
    facts = {"a_b": {"c": 0.25, "d": None, "e": True}, "few": [1, "x|y"], "many": [0] * 99}
    write_card(tmp_path, "Title", {"One": facts, "Two": "Text."}, cited_file="list.txt")
    lines = (tmp_path / CARD_FILE).read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Title"
    rows = [line for line in lines if line.startswith("| ") and line != "| | |"]
    assert rows == ["| a b, c | 0.25 |", "| a b, e | yes |", r"| few | 1, x\|y |", "| many | 99 |"]
    assert "Text." in lines
    assert any(hashlib.sha256(b"x").hexdigest() in line for line in lines)
