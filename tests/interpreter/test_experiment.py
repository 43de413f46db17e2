"""What was made before belongs to the network in use, or is refused."""

import numpy as np
import pytest
import torch

from interpreter.experiment import check_origin, conditions_sha256

ORIGIN = {"network": "net", "network_sha256": "ab", "truncation_psi": 0.7}


def test_the_order_of_a_file_in_memory_does_not_count():
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    turned = torch.from_numpy(np.asfortranarray(rows))
    assert conditions_sha256(turned) == conditions_sha256(torch.from_numpy(rows))


@pytest.mark.parametrize("changes", [{"network_sha256": "cd"}, {"network_sha256": None}])
def test_another_network_is_refused_also_where_its_hash_is_missing(changes):
    recorded = {key: value for key, value in {**ORIGIN, **changes}.items() if value is not None}
    with pytest.raises(ValueError, match="network_sha256"):
        check_origin(recorded, ORIGIN, "they were drawn")


@pytest.mark.parametrize("recorded", [None, {}])
def test_no_record_is_a_warning(recorded, caplog):
    check_origin(recorded, ORIGIN, "they were drawn")
    assert "they were drawn" in caplog.text


@pytest.mark.parametrize("recorded", [[], "net", 3])
def test_a_record_that_is_no_object_is_refused(recorded):
    with pytest.raises(ValueError, match="they were drawn"):
        check_origin(recorded, ORIGIN, "they were drawn")


def test_latents_that_are_ws_are_told_from_another_truncation():
    """A folder of projected images records no truncation."""
    recorded = {"network": "net", "network_sha256": "ab"}
    with pytest.raises(ValueError, match='"annotation_data_from_w": true'):
        check_origin(recorded, ORIGIN, "they were drawn")
    check_origin(recorded, ORIGIN, "they were trained", may_differ=["truncation_psi"])


def test_what_may_differ_is_a_warning(caplog):
    recorded = {"network_sha256": "ab", "truncation_psi": 1.0}  # models had no name of the network
    check_origin(recorded, ORIGIN, "they were trained", may_differ=["truncation_psi"])
    assert "truncation_psi" in caplog.text
    assert "network" not in caplog.text.replace("stylegan_checkpoint", "")
