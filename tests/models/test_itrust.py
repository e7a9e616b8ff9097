"""Files of the shape iTrust gives out, generated."""

import numpy as np
import pytest

from edge_agent.errors import DataFileError
from edge_models.datasets import load
from edge_models.itrust import load_swat, load_wadi, read_itrust

SWAT_TITLE = ",P1,,,P2\n"
SWAT_HEADER = " Timestamp,FIT101,LIT101, MV101,P203,Normal/Attack\n"
WADI_PATH = "\\\\WIN-25J4RO10SBF\\LOG_DATA\\SUTD_WADI\\LOG_DATA\\"


def swat_rows(labels):
    return "".join(f" 22/12/2015 4:30:0{i % 10} PM,2.{i},522.8{i},2,1,{label}\n" for i, label in enumerate(labels))


@pytest.fixture
def swat(tmp_path):
    (tmp_path / "SWaT_Dataset_Normal_v1.csv").write_text(SWAT_TITLE + SWAT_HEADER + swat_rows(["Normal"] * 6))
    labels = ["Normal", "Attack", "A ttack", "Normal", " Attack"]
    (tmp_path / "SWaT_Dataset_Attack_v0.csv").write_text(SWAT_TITLE + SWAT_HEADER + swat_rows(labels))
    return tmp_path


def wadi_files(folder, normal, attack, header, label):
    names = ["1_AIT_001_PV", "1_FIT_001_PV", "2_LS_001_AL"]
    title = "Attack data,,\n\n" if label.startswith("Attack") and "_" not in label else ""
    columns = ",".join(f"{header}{name}" for name in names)
    rows = [f"{i},10/9/2017,6:00:0{i}.000 PM,171.1{i},0.{i}," for i in range(1, 6)]
    (folder / normal).write_text(f"Row,Date,Time,{columns}\n" + "\n".join(rows) + "\n")
    labelled = [f"{row},{1 if i < 3 else -1}" for i, row in enumerate(rows)]
    plain = ",".join(names)
    (folder / attack).write_text(title + f"Row ,Date ,Time,{plain},{label}\n" + "\n".join(labelled) + "\n,,,,,,\n")
    return folder


def test_swat_names_and_labels_are_cleaned(swat):
    entity = load_swat(swat)
    assert entity.sensors == ("FIT101", "LIT101", "MV101", "P203")
    assert entity.normal.shape == (6, 4)
    assert entity.tests[0].label.tolist() == [0, 1, 1, 0, 1]
    assert entity.tests[0].values[1, 1] == pytest.approx(522.81)


@pytest.mark.parametrize(
    ("normal", "attack", "header"),
    [
        ("WADI_14days.csv", "WADI_attackdata.csv", WADI_PATH),
        ("WADI_14days_new.csv", "WADI_attackdataLABLE.csv", ""),
    ],
    ids=["A1", "A2"],
)
def test_wadi_paths_empty_columns_and_inverted_labels(tmp_path, normal, attack, header):
    entity = load_wadi(wadi_files(tmp_path, normal, attack, header, "Attack LABLE (1:No Attack, -1:Attack)"))
    assert entity.sensors == ("1_AIT_001_PV", "1_FIT_001_PV")  # the third one never has a value
    assert entity.tests[0].label.tolist() == [0, 0, 0, 1, 1]
    assert np.isfinite(entity.normal).all()


def test_sets_are_found_by_name(swat, tmp_path_factory):
    place = tmp_path_factory.mktemp("data")
    swat.rename(place / "swat")
    assert load(place, "swat")[0].name == "swat"


def test_missing_file_is_named(tmp_path):
    with pytest.raises(DataFileError, match=r"no SWaT_Dataset_Normal_v1\.csv .*convert the \.xlsx"):
        load_swat(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no header within"),
        (SWAT_HEADER, "no rows below the header"),
        (SWAT_HEADER + "x,abc,1,1,1,Normal\n", "column 'FIT101': got 'abc', expected a number"),
        (SWAT_HEADER + "x,1,1,1,1,Maybe\n", "got 'Maybe', expected Normal or Attack"),
    ],
)
def test_damaged_file_is_refused(tmp_path, text, message):
    path = tmp_path / "file.csv"
    path.write_text(text)
    with pytest.raises(DataFileError, match=message):
        read_itrust(path)
