"""Street addresses are found in the forms in which people write them; what only looks like one is left alone."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bundle import Guardrail
from services.governance.domain.addresses import HINT, find_addresses
from services.governance.domain.folding import fold
from services.governance.domain.guardrails import Guardrails, _Hints

GUARDRAILS = Guardrails([Guardrail(detect=("address",), action="mask")])
HINTS = _Hints([HINT])


def found(text: str) -> list[str]:
    return [text[finding.start : finding.end] for finding in GUARDRAILS.screen([text]).findings]


WHOLE = [
    "12 Main Street",
    "12 MAIN STREET",
    "12, Main Road",
    "221B Baker Street",
    "10-12 Mill Lane",
    "3/12 King Street",
    "12 1/2 Elm St",
    "350 Fifth Avenue",
    "2767 40th Street",
    "75 Sale-Heyfield Road",
    "145 Birch  Street",
    "8 St. James's Square",
    "100 Martin Luther King Jr. Blvd.",
    "100 Avenue of the Americas",
    "1234 Highway 61",
    "99 North Broadway",
    "5 The Green",
    "PO Box 123",
    "P.O. Box 4089, Springfield, IL 62704",
    "PSC 3026, Box 5016\nAPO AP 48164",
    "USNS Rustad\nFPO AA 41999",
    "1600 Pennsylvania Ave NW, Apt 4B, Washington, DC 20500",
    "1600 Pennsylvania Ave. N.W., Washington, D.C. 20500",
    "350 Fifth Avenue, 21st Floor, New York, NY 10118-0110",
    "12 Oak Dr, Springfield, Illinois",
    "12 Oak Dr, Springfield, IL, 62704, USA",
    "12 Main St Springfield IL 62704",
    "12 Elm St, Portland, OR 97201",
    "12 Elm St #5, St. Louis, MO 63101",
    "1234 Broadway, New York, NY 10001",
    "500 El Camino Real, Suite 200",
    "100 Queen St W, Toronto, ON M5H 2N2",
    "100 Queen St W, Toronto, Canada",
    "Unit 5, 12 King St, Sydney NSW 2000",
    "Flat 2, 10 Downing Street, London SW1A 2AA",
    "12 High Street, Headington, Oxford, OX3 9AA, UK",
    "12 Grafton Street, Dublin, D02 X285, Ireland",
    "12, MG Road, Indiranagar, Bengaluru 560038",
    "Musterstraße 12a, 12345 Berlin",
    "Musterstr. 12, D-12345 Berlin",
    "Musterstr.12",
    "Oldesloer Strasse 79, 60311 Frankfurt am Main",
    "Hans-Grade-Allee 18, 1. OG",
    "Alte Gasse 5",
    "Am Alten Markt 3",
    "Unter den Linden 77, 10117 Berlin, Deutschland",
    "Postfach 12 34 56, 10117 Berlin",
    "12 bis rue de la Paix, 75002 Paris",
    "12, avenue des Champs-Élysées\n75008 Paris\nFrance",
    "7 rue de l'Église",
    "Rue du Pont Simon 172, 7910 Anvaing",
    "Calle Mayor 5, 3º B, 28013 Madrid",
    "C/ Rosa de los Vientos, 30",
    "Avda. de la Constitución nº 12, 2º izq, 41001 Sevilla, España",
    "Calle Mayor s/n",
    "Via Roma 10, 00184 Roma (RM)",
    "Viale Giuseppe Garibaldi 10/A, int. 5",
    "Rua Libertino Martins 238",
    "Av. Paulista, 1578",
    "Kerkstraat 5, 1017 GA Amsterdam",
    "Frans van Mierisplein 148",
    "Postbus 123, 1000 AB Amsterdam",
    "Søndergade 87, 7182 Bredsten",
    "Kollenveien 58",
    "Drottninggatan 5",
    "Liisankatu 56",
    "Szilágyi Erzsébet fasor 96",
    "ul. Marszałkowska 12/14, 00-001 Warszawa",
]


@pytest.mark.parametrize("address", WHOLE)
def test_an_address_is_found_whole_in_a_sentence_on_a_line_and_in_json(address: str) -> None:
    assert found(f"Send it to: {address}, please") == [address]
    assert found(f"Hello,\n{address}\nThanks, Jo") == [address]
    written = address.replace("\n", "\\n")
    assert found(rf"Hello,\n{written}\nThanks") == [written]
    assert found(f'{{"address": "{written}"}}') == [written]
    assert found(address.lower()) == [address.lower()]


@pytest.mark.parametrize(
    "text",
    [
        "I live at [12 oak drive] and work at [221B Baker Street] in London",
        "Is [12 Main Street] where it was? Germany and Texas are far",
        "[12 Main Street], please come quickly",
        "from [12 Main Street] to [34 Park Avenue], then home",
        "[Musterstraße 12a, 12345 Berlin] ist meine Adresse",
        "wohnt in [Musterstraße 12] und arbeitet",
        "abito in [Via Roma 10] a Torino",
        "il habite [12 rue Victor Hugo] depuis hier",
        "two of them:\n[12 Main St, Springfield, IL 62704]\n[34 Elm St, Springfield, IL 62704]\n",
        "> [12 Main St\n> Apt 3\n> Springfield, IL 62704]\n> Thanks",
        "[12 Main St\r\nSpringfield, IL 62704\r\nUSA]\r\nThanks",
        r'{"text": "Jo\n[12 Main St\nApt 3\nSpringfield, IL 62704]\nThanks"}',
        "address1: [12 Main St]\nphone: 555 0123",
        "[12 Main St], phone 4155552671",
    ],
)
def test_what_stands_around_an_address_is_left(text: str) -> None:
    addresses = [part.split("]")[0] for part in text.split("[")[1:]]
    assert found(text.replace("[", "").replace("]", "")) == addresses


@pytest.mark.parametrize(
    "text",
    [
        "the road to success is long, and Wall Street fell",
        "12 street lamps, 20 new street signs and 3 road maps",
        "call me in 5 minutes on the road",
        "5 star drive",
        "a 2 TB hard drive, a 64 GB flash drive, 8 GB USB drive",
        "4 wheel drive, a 2 way street, a 6 lane highway",
        "In 2008 Wall Street crashed, and by 2010 Main Street paid",
        "a 20 minute walk, a 10 km trail and 5 days' drive",
        "Book a table for 4 at a quiet place near Park Avenue at 7 pm",
        "Open Monday to Friday 9 to 17, Saturday 10 to 14, closed on Sunday",
        "The 1st place and the 2nd place win $500",
        "Buy 2 get 1 free: 12 oz mug, $9.99, in the shop on Oxford Street",
        "Find 3 restaurants close to me that are open after 10",
        "The 50 best places to eat street food in Bangkok",
        "I need 2 rooms for 3 nights in Paris, France from 12 May",
        "Set an alarm for 6:30, then drive to work",
        "paid via email 3 times, via USB 3 and via port 8080",
        "Version 2.1 of the ISO 9001 text, chapter 12, page 5, line 3",
        "Weather in Springfield, IL 62704 for the next 5 days",
        "12 apples, red, and 12345 pears",
        "sold 120 units, order 55012, invoice 2024-17",
        "string 5, spring 2024, during 2020, offering 3, brigade 12",
        "a decade, 5 rings and bow tie 2",
        "am Montag 3 Uhr, im Jahr 2024, am 3. Mai",
        "Wir sind alle 5 im Park, 3 Stunden lang",
        "blood pressure 120/80, bp 12 and 98 degrees",
        "dest: gate 12, terminal 3, seat 14C",
        "Copyright (c) 1991-1998, Thomas G. Lane.",
        "nvarchar str256, sfinstr3 and substr 3",
        "order 12 dr. smith called, et al. 5, mac os. 5",
        "the plaza hotel 5 nights, camino 2 days",
        "[1, 22, 333], x = 10 / 12 * 3",
        "2 adults, 1 child, suite with a view",
        "On May 5, Oak Street was closed; on 12 June 2020, the court ruled",
        "In May 2020 the court, after two years, agreed",
        "iPhone 12 Pro alpine green, size 8 dark green",
    ],
)
def test_ordinary_texts_hold_no_address(text: str) -> None:
    assert found(text) == []


def test_an_address_is_found_where_it_stands_behind_accents_and_emoji() -> None:
    text = "👩‍👩‍👧 é ß ﬀ: Große Straße 12, 12345 Köln 😀"
    assert found(text) == ["Große Straße 12, 12345 Köln"]
    assert GUARDRAILS.screen([text]).texts == ("👩‍👩‍👧 é ß ﬀ: <ADDRESS_1> 😀",)


def test_the_same_address_has_one_number_however_it_is_set() -> None:
    texts = ["12 Main St., Springfield, IL 62704", "12 MAIN ST\nSpringfield IL  62704", "13 Main St"]
    assert GUARDRAILS.screen(texts).texts == ("<ADDRESS_1>", "<ADDRESS_1>", "<ADDRESS_2>")
    assert GUARDRAILS.screen([r"12 Main St\nSpringfield\nIL 62704", texts[0]]).texts == ("<ADDRESS_1>", "<ADDRESS_1>")


words = {word for address in WHOLE for word in re.split(r"[ \n]", address)}
parts = st.sampled_from([*sorted(words), ",", "\n", r"\n", ">", "Ж", "way"])


@given(st.lists(parts, max_size=12), st.sampled_from(["", " ", "  "]))
def test_the_hint_is_there_wherever_an_address_is(pieces: list[str], between: str) -> None:
    folded = fold(between.join(pieces)).text
    if list(find_addresses(folded)):
        assert HINTS.within(folded)
