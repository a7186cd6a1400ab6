"""A small OMOP Common Data Model of made-up people."""

import random
from pathlib import Path

EXAMPLE = Path(__file__).parents[3] / "deploy/examples/omop"
PEOPLE = 300
DIABETES, KIDNEY, DIABETIC_NEPHROPATHY, ASTHMA = 201826, 46271022, 443731, 317009
SYSTOLIC, BMI, HBA1C, OTHER = 3004249, 3038553, 3004410, 3000963
TABLES = """
CREATE TABLE person (person_id INTEGER PRIMARY KEY, gender_concept_id INTEGER NOT NULL,
    year_of_birth INTEGER NOT NULL, birth_datetime TIMESTAMP, person_source_value VARCHAR(50));
CREATE TABLE condition_occurrence (condition_occurrence_id INTEGER PRIMARY KEY,
    person_id INTEGER NOT NULL, condition_concept_id INTEGER NOT NULL,
    condition_start_date DATE NOT NULL);
CREATE TABLE measurement (measurement_id INTEGER PRIMARY KEY, person_id INTEGER NOT NULL,
    measurement_concept_id INTEGER NOT NULL, measurement_date DATE NOT NULL,
    value_as_number NUMERIC);
CREATE TABLE concept_ancestor (ancestor_concept_id INTEGER, descendant_concept_id INTEGER);
"""


def statements() -> str:
    """A CDM's rows: every third person without diabetes, older ones with kidney disease."""
    draw = random.Random(7)
    lines = ["BEGIN;", TABLES]
    conditions, measurements = 0, 0

    def insert(table: str, *values: object) -> None:
        cells = ("NULL" if value is None else repr(value) for value in values)
        lines.append(f"INSERT INTO {table} VALUES ({', '.join(cells)});")

    for concept in (DIABETES, KIDNEY, ASTHMA):
        insert("concept_ancestor", concept, concept)
    insert("concept_ancestor", DIABETES, DIABETIC_NEPHROPATHY)
    insert("concept_ancestor", KIDNEY, DIABETIC_NEPHROPATHY)
    for person in range(1, PEOPLE + 1):
        born = draw.randint(1930, 2000)
        insert("person", person, draw.choice([8507, 8532]), born, None, f"MRN{person}")
        diagnoses = [ASTHMA] if person % 3 == 0 else [DIABETES, DIABETES]
        if person % 3 and born < 1965:
            diagnoses.append(draw.choice([KIDNEY, DIABETIC_NEPHROPATHY]))
        for concept in diagnoses:
            conditions += 1
            insert("condition_occurrence", conditions, person, concept, "2024-05-01")
        for concept, value in ((SYSTOLIC, 500), (SYSTOLIC, 120.5), (BMI, 31), (OTHER, 1)):
            measurements += 1
            date = f"2024-0{1 + measurements % 4}-01"
            insert("measurement", measurements, person, concept, date, value)
        insert("measurement", PEOPLE * 10 + person, person, HBA1C, "2024-01-01", None)
    return "\n".join([*lines, "COMMIT;"])
