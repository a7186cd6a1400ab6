"""What columns with direct identifiers are called: words of a column's name, kind by kind.

The kinds are the eighteen of HIPAA's Safe Harbor, 45 CFR 164.514(b)(2)(i), by its letters (A) to
(R); the words are those of English, German, French, Spanish, Italian and Dutch tables. A phrase
matches where its words stand in a name one after another, however they are joined: `zip_code`,
`homeZipCode2`, `ZIPCODE`. Phrases marked `=` must be the whole name: as a part they are harmless.
"""

import re
import unicodedata
from enum import StrEnum


class Kind(StrEnum):
    """A direct identifier, as people call it."""

    NAME = "name"  # (A)
    PLACE = "address or place"  # (B)
    DATE = "date"  # (C)
    PHONE = "telephone or fax number"  # (D), (E)
    EMAIL = "e-mail address"  # (F)
    NATIONAL = "national or social security number"  # (G)
    RECORD = "medical record or patient number"  # (H)
    ACCOUNT = "insurance or account number"  # (I), (J)
    LICENCE = "licence or vehicle number"  # (K), (L)
    DEVICE = "device or serial number"  # (M)
    URL = "web address"  # (N)
    IP = "network address"  # (O)
    AGE = "age over 89"  # the rest of (C)
    BODY = "biometric or photograph"  # (P), (Q)
    OTHER = "other unique number"  # (R)


_PHRASES = {
    Kind.NAME: """
        =name, first name, last name, middle name, full name, given name, family name, surname,
        forename, maiden name, birth name, patient name, person name, mother name, father name,
        initials, vorname, nachname, zuname, familienname, geburtsname, patientenname, prenom,
        =nom, nom de famille, nom naissance, nom patient, apellido, apellidos, =nombre, nombres,
        nombre paciente, cognome, =nome, nome paziente, achternaam, voornaam, naam
    """,
    Kind.PLACE: """
        address, addr, street, house number, city, town, village, county, district, zip, zip code,
        zipcode, postcode, post code, postal code, postal, latitude, longitude, lat lon, =lat,
        =lon, =lng, geocode, gps position, adresse, anschrift, strasse, hausnummer, plz,
        postleitzahl, =ort, wohnort, geburtsort, =rue, code postal, =ville, commune, direccion,
        =calle, ciudad, codigo postal, indirizzo, citta, =cap, straat, woonplaats, birth place,
        place of birth
    """,
    Kind.DATE: """
        date, datetime, timestamp, dob, birthday, birthdate, birth day, birth datetime, dod,
        deathdate, geburtsdatum, geburtstag, gebdat, datum, sterbedatum, aufnahmedatum, date
        naissance, fecha, fecha nacimiento, data nascita, geboortedatum
    """,
    Kind.PHONE: """
        phone, telephone, =mobile, mobile number, cell phone, cellphone, fax, pager, =tel, tel no,
        phone number, telefon, handy, mobilnummer, telefono, cellulare, movil, telefoon, =portable
    """,
    Kind.EMAIL: """
        email, e mail, mail address, =mail, correo, courriel
    """,
    Kind.NATIONAL: """
        ssn, social security, national id, national number, nhs, nhs no, nhs number, =nino,
        national insurance, tax id, =tin, steuer id, steuernummer, sozialversicherungsnummer,
        =svnr, =svn, =nir, insee, numero secu, =dni, =nie, =nif, codice fiscale, =bsn,
        personnummer, passport, identity card, ausweisnummer, cpf, aadhaar, ahv
    """,
    Kind.RECORD: """
        mrn, medical record, record number, chart number, hospital number, patient id, patient
        number, patient no, patientid, pat id, patid, person id, subject id, person source value,
        participant id, case id, case number, encounter id, visit id, admission id, accession
        number, specimen id, sample id, =patient, =pid, patientennummer, patienten id, fallnummer,
        fall id, =ipp, numero dossier, historia clinica, =nhc, patientnummer
    """,
    Kind.ACCOUNT: """
        health plan, beneficiary, insurance number, insurance id, policy number, member id,
        subscriber id, medicare number, medicaid number, account, account number, iban, =bic,
        credit card, card number, versichertennummer, versicherungsnummer, kvnr, kontonummer,
        krankenkassennummer, compte bancaire, cuenta
    """,
    Kind.LICENCE: """
        license, licence, license number, certificate number, license plate, plate number, vin,
        vehicle id, driver id, kennzeichen, fuhrerschein, fuehrerschein, matricula
    """,
    Kind.DEVICE: """
        device id, device number, device identifier, =serial, serial number, serial no, udi, imei,
        implant id, seriennummer, geratenummer, geraetenummer
    """,
    Kind.URL: """
        url, uri, website, web page, homepage, =link
    """,
    Kind.IP: """
        =ip, ip address, ip addr, ipv4, ipv6, mac address, hostname
    """,
    Kind.BODY: """
        =photo, patient photo, photograph, portrait, face image, fingerprint, finger print, voice
        print, voiceprint, iris scan, retina scan, biometric, biometrics, genome id, lichtbild
    """,
    Kind.OTHER: """
        =id, uuid, guid, unique id, identifier, record id, row id, =key, pseudonym, source value
    """,
}
_PAIRS = [
    ("".join(phrase.split()), len(phrase.split()), kind)
    for kind, text in _PHRASES.items()
    for phrase in text.split(",")
]
_WHOLE = {text[1:]: kind for text, _, kind in _PAIRS if text.startswith("=")}
_ANYWHERE = {text: kind for text, _, kind in _PAIRS if not text.startswith("=")}
_LONGEST = max(words for _, words, _ in _PAIRS)


def kind_of_name(name: str) -> Kind | None:
    """Tell which identifier a column's name announces, if any; a longer phrase goes first."""
    words = _words(name)
    if kind := _WHOLE.get("".join(words)):
        return kind
    for length in range(_LONGEST, 0, -1):
        for start in range(len(words) - length + 1):
            if kind := _ANYWHERE.get("".join(words[start : start + length])):
                return kind
    return None


def is_age(name: str) -> bool:
    """Whether a column's name says that it holds ages."""
    return not {"age", "ages", "alter", "edad", "eta", "leeftijd"}.isdisjoint(_words(name))


def _words(name: str) -> list[str]:
    """Split at case, digits and punctuation; lower case, without accents."""
    plain = (
        unicodedata.normalize("NFKD", name.replace("ß", "ss")).encode("ascii", "ignore").decode()
    )
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", plain)
    return [part.lower() for part in parts]
