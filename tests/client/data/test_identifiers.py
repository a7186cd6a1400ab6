"""What looks like a direct identifier, what does not, and what a steward can do about it."""

import random
from pathlib import Path

import pandas as pd
import pytest

from accord_client.data.files import FileSource
from accord_client.data.identifier_names import Kind, kind_of_name
from accord_client.data.identifiers import Finding, look
from accord_client.datasets import Datasets
from accord_common import schema_file
from accord_common.errors import PolicyError
from accord_common.schema_file import from_document
from accord_server.demo.data import make_tables

draw = random.Random(3)
HEART = (
    "age sex cp trestbps chol fbs restecg thalach exang oldpeak slope ca thal num cp_2 restecg_1"
)


def values(cells: list[object]) -> Kind | None:
    """The kind that cells alone announce."""
    found = look(pd.DataFrame({"x": cells}), None)
    return found[0].kind if found else None


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("name LastName patient_name Vorname NOM", Kind.NAME),
        ("address Home-Address city zipCode PLZ Straße código_postal", Kind.PLACE),
        ("birth_date dateOfBirth DOB admission_datetime Geburtsdatum", Kind.DATE),
        ("phone homePhone2 FAX_NUMBER Telefon", Kind.PHONE),
        ("email e-mail EMail_2", Kind.EMAIL),
        ("ssn nhs_number SozialversicherungsNummer", Kind.NATIONAL),
        ("mrn MRN_1 patient_id personId hospital-number Fallnummer", Kind.RECORD),
        ("policy_number iban Versichertennummer", Kind.ACCOUNT),
        ("license_plate VIN driverLicenceNumber", Kind.LICENCE),
        ("serial_number UDI device_id", Kind.DEVICE),
        ("url website", Kind.URL),
        ("ip ip_address MACAddress", Kind.IP),
        ("photo fingerprint", Kind.BODY),
        ("id uuid row_id", Kind.OTHER),
    ],
)
def test_columns_are_known_by_their_names(names: str, kind: Kind) -> None:
    assert {kind_of_name(name) for name in names.split()} == {kind}


@pytest.mark.parametrize(
    "names",
    [
        HEART,
        "mean_radius texture_error worst_fractal_dimension drug_name_code gene_name",
        "year_of_birth update_count candidate velocity capacity ip_joint nir_absorbance",
        "phototherapy photo_therapy idh_mutation tin_level serial_troponin age_at_diagnosis",
        "systolic_known hba1c bmi country state hospital_stay_days telomere mobility lung_lat",
    ],
)
def test_clinical_names_raise_no_alarm(names: str) -> None:
    assert {name: kind_of_name(name) for name in names.split() if kind_of_name(name)} == {}


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["a", "jane@clinic.org", "b"], Kind.EMAIL),
        (["see https://x.org/1", "https://x.org/1"], Kind.URL),
        (["10.0.0.1"], Kind.IP),
        (["d0:50:99:84:a2:a0"], Kind.IP),
        (["01a20293-c8f3-7224-8367-569659b653b5"], Kind.OTHER),
        ([f"+49 30 {draw.randrange(10**6, 10**7)}" for _ in range(40)], Kind.PHONE),
        ([f"SW1A {n % 10}AA" for n in range(40)], Kind.PLACE),
        ([f"19{n:02}-03-{n % 28 + 1:02}" for n in range(40)], Kind.DATE),
        ([int(f"19{n:02}03{n % 28 + 1:02}") for n in range(40)], Kind.DATE),
        (list(pd.date_range("1950-01-01", periods=40)), Kind.DATE),
        ([f"{n}.3.1961" for n in range(1, 29)], Kind.DATE),
        ([f"{draw.randrange(10**7, 10**8)}" for _ in range(40)], Kind.OTHER),
        ([float(draw.randrange(10**7, 10**8)) for _ in range(40)], Kind.OTHER),
        ([f"Jane{'abcdefghij'[n % 10]} Do{'klmnopqrst'[n // 10]}e" for n in range(40)], Kind.NAME),
    ],
)
def test_cells_are_known_by_their_look(cells: list[object], kind: Kind) -> None:
    assert values(cells) == kind


def nhs_number(stem: int) -> str:
    """A number with the check digit of the NHS data dictionary: weights 10 to 2, modulo 11."""
    digits = f"{stem:09}"
    check = -sum((10 - i) * int(digit) for i, digit in enumerate(digits)) % 11
    return f"{digits}{check}" if check < 10 else nhs_number(stem + 1)


def test_national_numbers_are_told_from_other_long_ones() -> None:
    stems = [draw.randrange(4 * 10**8, 5 * 10**8) for _ in range(60)]
    assert values([nhs_number(stem) for stem in stems]) == Kind.NATIONAL
    assert values([f"{stem}5" for stem in stems]) == Kind.OTHER


@pytest.mark.parametrize(
    "cells",
    [
        [draw.gauss(14, 3) for _ in range(60)],
        [draw.randrange(100, 600) for _ in range(60)],
        [draw.randrange(1, 10**8) >> draw.randrange(20) for _ in range(60)],  # counts
        [263358.03, 1.5e6, 2e5] * 20,  # platelets
        ["Left Breast", "Right Breast"] * 30,
        ["I", "II", "III"] * 20,
        *([f"{draw.random():.{digits}f}" for _ in range(60)] for digits in (6, 9, 17)),
        ["1.2.3", "v10.1"] * 20,
        [None, float("nan"), ""] * 20,
        ["www." + "a" * 10**5, "a" * 10**6, "1" * 10**5] * 20,  # and in no time
        [],
    ],
)
def test_measurements_raise_no_alarm(cells: list[object]) -> None:
    assert values(cells) is None


def test_the_demonstration_raises_no_alarm(tmp_path: Path) -> None:
    for name, text in make_tables().sites.items():
        (tmp_path / "t.csv").write_text(text)
        assert look(FileSource.at(tmp_path / "t.csv").columns(), None) == [], name


def write(folder: Path) -> tuple[Path, Path]:
    rows = [f"{n},1990-01-{n + 1:02},{n % 100},{5550000 + n},{n % 2}" for n in range(30)]
    table, schema = folder / "t.csv", folder / "t.yaml"
    table.write_text("patient_id,seen_date,age,zip,ill\n" + "\n".join(rows) + "\n")
    schema.write_text(
        """
        name: clinic
        target: {column: ill, type: binary}
        identifier: patient_id
        ignored: [seen_date]
        columns:
          - {name: age, type: integer, minimum: 0, maximum: 120}
          - {name: zip, type: integer, minimum: 0, maximum: 9999999}
        """
    )
    return table, schema


def test_a_table_with_an_identifier_as_feature_needs_a_reason(tmp_path: Path) -> None:
    path, file = write(tmp_path)
    source, schema = FileSource.at(path), schema_file.load(file)
    found = look(source.columns(), schema)
    assert [(f.column, f.role, f.kind, f.by, f.refused) for f in found] == [
        ("patient_id", "identifier", Kind.RECORD, "name", False),
        ("seen_date", "ignored", Kind.DATE, "name", False),
        ("seen_date", "ignored", Kind.DATE, "values", False),
        ("zip", "feature", Kind.PLACE, "name", True),
        ("zip", "feature", Kind.OTHER, "values", True),
    ]
    datasets = Datasets(tmp_path / "datasets")

    def prepare(allowed: dict[str, str]) -> None:
        datasets.store(
            datasets.prepare(
                source,
                schema,
                name="t",
                size=99,
                unit="record",
                policy="ask",
                population=None,
                allowed=allowed,
            )
        )

    with pytest.raises(PolicyError, match=r"direct-identifier.*'zip' \(address or place\)") as no:
        prepare({"age": "years"})
    assert "5550" not in str(no.value) and datasets.all() == []
    prepare({"zip": "zone of the inner proximal scan"})
    dataset = datasets.find("t")
    assert dataset.allowed == {"zip": "zone of the inner proximal scan"}
    assert datasets.update(dataset, policy="ask") == dataset
    path.write_text(path.read_text().replace(",1990-01-0", ",1990-02-0"))
    assert datasets.update(dataset, policy="ask", allowed={"age": "x"}).allowed.keys() == {
        "age",
        "zip",
    }


def test_high_ages_are_told_and_not_refused() -> None:
    schema = from_document(
        {
            "name": "clinic",
            "target": {"column": "ill", "type": "binary"},
            "columns": [{"name": "age", "type": "integer", "minimum": 0, "maximum": 120}],
        }
    )
    frame = pd.DataFrame({"age": ["40", "90", "89", "101"], "ill": ["0", "1", "0", "1"]})
    (found,) = look(frame, schema)
    assert found == Finding("age", "feature", Kind.AGE, "values", 0.5) and not found.refused
