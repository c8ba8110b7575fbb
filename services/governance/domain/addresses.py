"""Postal addresses, by the forms in which people of many countries write them.

A street and a house number make an address, or a box at the post office; the flat, the town, the state, the postcode
and the country beside them belong to it. The texts are folded, so capitals tell nothing: a town is told by the
postcode, the state or the country next to it.
"""

import re
from collections.abc import Iterator

_MEASURES = (
    "minutes?|mins?|hours?|hrs?|days?|weeks?|months?|years?|seconds?|secs?|times?|am|pm|h|uhr|percent|kms?"
    "|kilomet(?:er|re)s?|miles|m|met(?:er|re)s?|cm|mm|ft|feet|foot|inch(?:es)?|acres?|kg|lbs?|oz|gb|mb|tb|euros?|eur"
    "|usd|dollars?|nights?|people|persons?|guests?|adults?|children|kids|players?|stars?|pieces?|packs?|sets?|beds?"
    "|bedrooms?|bathrooms?|rooms?|tickets?|pairs?|items?|copies"
)
# What no street or town has in its name: where such a word stands, the name has ended, or there was none.
_NO_NAME = (
    f"{_MEASURES}|a|about|after|ago|all|an|and|any|are|around|as|at|away|be|been|before|between|but|by|call|can|could|did"
    "|does|during|each|every|for|from|get|go|had|has|have|he|her|his|i|if|in|into|is|it|its|just|me|more|my|near|next|no|not"
    "|now|of|off|on|only|or|other|our|out|over|per|please|she|should|since|so|some|than|thanks|that|the|their|them|then"
    "|there|these|they|this|those|to|today|together|tomorrow|tonight|too|until|up|us|was|we|were|what|when|where|which|while"
    "|who|will|with|would|yesterday|you|your"
    "|number|order|invoice|account|card|phone|tel|telephone|mobile|fax|email|e-mail|mail|ref|id|https?|www|bluetooth|wi-?fi"
    "|ethernet|port|sms|whatsapp|app|web|api|courier|version|way|lane|wheel|door|hard|flash|usb|ssd|external|test"
    "|ist|sind|war|und|oder|nicht|bitte|mit|seit|ich|wir|wohne|wohnt|est|et|ou|sont|avec|pour|depuis|merci|es|con|por|para"
    "|desde|gracias|sono|per|grazie|voor|met|sinds|jest"
)
_END = r"(?!\w)"
_GAP = " {1,2}"
_BEGIN = r"(?:(?<![^\W_])(?!(?<=\\)[nrt])|(?<=\\[nrt]))"
_WORD = rf"(?!(?:{_NO_NAME}){_END})[^\W\d_]{{1,25}}+(?:['’.-][^\W\d_]{{1,24}}+){{0,3}}+{_END}"  # noqa: RUF001
# The end of a line, as it is or as an escape, and what lists and quotations begin theirs with.
_LINE = r" ?,? ?(?:[\r\n]|\\[nr]){1,2}[^\w\n\\]{0,8}"
_COMMA = rf"(?:{_LINE}|,{_GAP})"
_NEXT = rf"(?:{_COMMA}|{_GAP})"
_STOP = r" ?(?:[^\w ]|\Z)"
_NAME_ENDS = rf"(?={_STOP}|{_GAP}(?:[0-9]|(?:{_NO_NAME}){_END}))"
# Where a line or a clause begins.
_FIRST = r"(?:\A|(?<=[^\w ])|(?<=[^\w ] )|(?<=[0-9] )|(?<=\\[nrt]))"

_YEAR = r"(?:19|20)[0-9]{2}(?![0-9])"
_NO_DATE = (
    r"(?<!(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec) )(?<!(?:june|july|gust) )"
    r"(?<!(?:nuary|ruary|march|april|ember|tober) )"
    rf"(?!(?:(?<=in )|(?<=since )|(?<=by )|(?<=of )|(?<=until )|(?<=from )){_YEAR}|{_YEAR}-)"
)
_NUMBER = (
    rf"(?:(?<![\w$€£¥+/-])(?<![0-9][.,:])|(?<=\\[nrt])){_NO_DATE}"
    r"[0-9]{1,5}(?:[ /-][0-9]{1,5})?[a-z]?(?: 1/2| bis| ter)?(?!\w)"
)
_NUMBER_BEHIND = (
    r"(?:n[o°]?\.? ?|nr\.? ?|num(?:ero)?\.? |km\.? )?"
    rf"[0-9]{{1,4}}[a-z]?(?:[/-](?:[0-9]{{1,4}}[a-z]?|[a-z]))?(?: bis| ter| [a-z](?={_STOP}))?"
    rf"(?![\w%€$£])(?![.,:][0-9])(?! ?(?:[%€$£]|(?:{_MEASURES}){_END}))(?:\.(?=,|[\r\n]|\\))?"
)

_FLAT = "apartment|apt|suite|ste|unit"
_UNIT = (
    rf"(?:(?:{_FLAT}|appartement|appt|flat|room|rm|floor|fl|level|building|bldg|block|lot|piso|planta|puerta|pta|portal"
    rf"|escalera|esc|interno|int|scala|etage|batiment|bat|wohnung|whg|bus|bte)(?:\.? ?#?|\. )"
    rf"(?:[0-9]{{1,5}}[a-z]?|[a-z][0-9]{{0,4}}){_END}"
    rf"|# ?[0-9]{{1,5}}[a-z]?{_END}|[0-9]{{1,2}}(?:st|nd|rd|th) fl(?:oor)?{_END}|[0-9]{{1,2}}[oa] ?[a-z]{_END}"
    rf"|[0-9]{{1,2}}[oa]?\.? ?(?:og|etage|stock|piso|planta|izq(?:uierda)?|izda|dcha|derecha){_END})"
)

_DIGITS = (
    rf"(?:[0-9]{{5}}-[0-9]{{3,4}}|(?!{_YEAR})[0-9]{{4,6}}|(?<=nsw )[0-9]{{4}}"
    "|[0-9]{2}-[0-9]{3}|[0-9]{4}-[0-9]{3}|[0-9]{3} [0-9]{2})"
)
_CANADIAN = "[a-z][0-9][a-z][ -]?[0-9][a-z][0-9]"
# British, Canadian and Irish.
_LETTERED = (
    rf"(?:[a-z]{{1,2}}[0-9][0-9a-z]? ?[0-9][a-z]{{2}}|{_CANADIAN}|[a-z][0-9]{{2}} ?(?=[a-z]{{0,3}}[0-9])[0-9a-z]{{4}})"
)
_CODE_ENDS = r"(?![\w-])(?![ .,]?[0-9])"
# Those that are no words.
_SHORT_STATES = (
    "ak|ar|az|ca|ct|dc|fl|ga|ia|il|ks|ky|md|mn|ms|mt|nc|nd|nh|nj|nm|nv|ny|ri|sc|sd|tn|tx|ut|va|vt|wa|wi|wv|wy|bc|qc|ns"
    "|nb|nsw|vic|qld|tas"
)
_STATES = (
    "alabama|alaska|arizona|arkansas|california|colorado|connecticut|delaware|florida|georgia|hawaii|idaho|illinois"
    "|indiana|iowa|kansas|kentucky|louisiana|maine|maryland|massachusetts|michigan|minnesota|mississippi|missouri"
    "|montana|nebraska|nevada|new (?:hampshire|jersey|mexico|york|south wales|brunswick)"
    "|(?:north|south) (?:carolina|dakota)|ohio|oklahoma|oregon|pennsylvania|rhode island|tennessee|texas|utah|vermont"
    "|virginia|washington|west virginia|wisconsin|wyoming|ontario|quebec|british columbia|alberta|manitoba"
    "|saskatchewan|nova scotia|queensland|victoria|tasmania|(?:south|western) australia"
)
_COUNTRIES = (
    r"usa|u\.s\.(?:a\.)?|united states(?: of america)?|uk|u\.k\.|united kingdom|england|scotland|wales"
    "|(?:northern )?ireland|canada|australia|new zealand|south africa|india|singapore|germany|deutschland|austria"
    "|osterreich|switzerland|schweiz|suisse|svizzera|france|belgium|belgique|belgie|netherlands|nederland|luxembourg"
    "|spain|espana|portugal|italy|italia|greece|cyprus|malta|denmark|danmark|sweden|sverige|norway|norge|finland"
    "|suomi|iceland|greenland|estonia|latvia|lithuania|poland|polska|czechia|czech republic|slovakia|slovenia|hungary"
    "|magyarorszag|romania|bulgaria|croatia|serbia|turkey|israel|mexico|brazil|brasil|argentina|chile|colombia|peru"
    "|uruguay|tunisia|morocco|egypt|nigeria|kenya|china|hong kong|japan|south korea|philippines|malaysia|indonesia"
)
_TOWN_WORD = rf"(?:(?:[a-z]\.){{2,3}}|(?:(?:st|ft|mt)\. )?{_WORD})"
_TOWN = rf"{_TOWN_WORD}(?:[ -]{{1,2}}{_TOWN_WORD}){{0,3}}+"
_COUNTRY_BEHIND = rf"(?:{_NEXT}(?:{_COUNTRIES}){_END})?"
_TOWN_AND_CODE = (
    rf"(?:(?:{_TOWN}{_COMMA}){{0,2}}{_TOWN}(?:{_NEXT}(?:in|or|me|on))?{_NEXT}(?:{_LETTERED}|{_DIGITS})|{_LETTERED})"
    rf"{_CODE_ENDS}{_COUNTRY_BEHIND}"
)
_TOWN_AND_STATE = (
    rf"(?:{_TOWN}{_COMMA}){{0,2}}(?:(?:{_TOWN_WORD}{_GAP}){{0,3}}?(?:{_STATES}|{_COUNTRIES})|(?<=, )(?:{_SHORT_STATES})"
    rf"|(?:{_TOWN_WORD}{_GAP}){{1,3}}?(?:{_SHORT_STATES}|on)(?={_STOP}))"
    rf"{_END}{_COUNTRY_BEHIND}"
)
_CODE_AND_TOWN = (
    rf"(?:[a-z]{{1,2}}-)?(?:[0-9]{{4}} ?[a-z]{{2}}(?= )|{_DIGITS}){_GAP}"
    rf"(?:{_TOWN_WORD}(?:[ -]{_TOWN_WORD}){{1,3}}{_NAME_ENDS}"
    rf"|(?:(?:bad|den|la|le|les|los|las|el|san|santa|saint|sankt){_GAP})?{_TOWN_WORD}"
    rf"(?:{_GAP}(?:am|an|a|de|del|der|di|do|du|in|la|ob|sur){_GAP}(?:der )?{_WORD}{_NAME_ENDS})?)"
    rf"(?:,? \([a-z]{{2}}\))?{_COUNTRY_BEHIND}"
)
_UNITS_BEHIND = rf"(?:{_NEXT}{_UNIT}){{0,3}}"
_BEHIND = rf"{_UNITS_BEHIND}(?:{_NEXT}(?:{_TOWN_AND_CODE}|{_TOWN_AND_STATE}))?"
_BEHIND_ABROAD = rf"{_UNITS_BEHIND}(?:{_NEXT}(?:{_CODE_AND_TOWN}|{_TOWN_AND_CODE}|{_TOWN_AND_STATE}))?"

# English: the number, the name, the kind of street.
_STREETS = (
    r"street|str\.|st\.?|road|rd\.?|avenue|ave\.?|boulevard|blvd\.?|ln\.?|highway|hwy\.?|parkway|pkwy\.?|turnpike|mews"
)
# Words that often are something else. They are a street's behind `at`, before a flat or town, and where a clause ends.
_MAYBE_STREETS = (
    r"lane|drive|dr\.?|way|court|ct\.?|place|pl\.?|square|sq\.?|close|circle|cir\.?|grove|trail|trl\.?|loop|plaza"
    r"|parade|row|walk|hill|rise|terrace|crescent|cres\.?|gardens|gdns\.?|alley|quay|wharf|passage|esplanade"
    "|causeway"
)
# 20 new street signs.
_OF_STREETS = (
    "lamps?|lights?|signs?|names?|maps?|foods?|art|artists?|vendors?|style|wear|levels?|bikes?|fashion|trips?|tests?"
    "|works|closures?|safety|shows?|musicals?|plays?|views?|games?|journal|tours?|projects?|fighters?|parties|cleaning"
    "|parking|racing|races?|dancers?|photos?|photography|credit|cats?|dogs?|shoes"
)
_NAMED = rf"(?:{_WORD}\.?|[0-9]{{1,3}}(?:st|nd|rd|th){_END}){_GAP}"
_SIDE = rf"(?:{_GAP}(?:[ns]\.?[ew]?|[ew]|north|south|east|west)\.?{_END})?"
_ENGLISH = (
    rf"(?P<at>(?<=\bat ))?{_NUMBER},?{_GAP}(?:(?:{_NAMED}){{1,4}}?"
    rf"(?:(?:{_STREETS}){_END}(?![-'’])(?!{_GAP}(?:{_OF_STREETS}){_END})"  # noqa: RUF001
    rf"|(?:{_MAYBE_STREETS}){_END}(?(at)|(?={_STOP}|{_NEXT}(?:{_UNIT}|{_TOWN_AND_CODE}))))"
    rf"|(?<!,)(?<!, )the{_GAP}(?:avenue|close|crescent|green|grove|lane|mews|terrace){_END}(?={_STOP})"
    rf"|(?:(?:[nsew]|north|south|east|west|old|us|state|county)\.?{_GAP}){{0,2}}(?:"
    rf"(?:highway|hwy|route|rte|road|rd)\.?{_GAP}[0-9]{{1,4}}[a-z]?{_END}|broadway{_END}(?!{_GAP}(?:{_OF_STREETS}){_END})"
    rf"|avenue{_GAP}(?:of the{_GAP}{_WORD}|[a-z]{_END}))){_SIDE}{_BEHIND}"
)
# Anything with a number is a street where a flat follows, or a town, a state and a postcode.
_ANY_STREET = rf"{_NUMBER},?{_GAP}(?:{_NAMED}){{0,4}}(?:{_WORD}|[0-9]{{1,4}}[a-z]?{_END})"
_WITH_FLAT = rf"(?<![0-9] )(?=[0-9]{{2}}){_ANY_STREET}{_NEXT}(?:{_FLAT})\.? ?#?[0-9]{{1,5}}[a-z]?{_END}{_BEHIND}"
_WITH_CODE = (
    rf"{_ANY_STREET}{_COMMA}{_TOWN}{_COMMA}(?:(?:[a-z]{{2}}|nsw|vic|qld|tas|{_COUNTRIES}){_NEXT}){{1,2}}"
    rf"(?:[0-9]{{5}}(?:-[0-9]{{4}})?|{_CANADIAN}){_CODE_ENDS}{_COUNTRY_BEHIND}"
)

_FRENCH_STREETS = (
    r"rue|avenue|av\.|boulevard|bd|chemin|ch\.|impasse|allees?|quai|cours|route|place|passage|square|faubourg"
)
_FRENCH = (
    rf"{_NUMBER},?{_GAP}(?:{_FRENCH_STREETS}){_GAP}(?:(?:d[eu]s?|l[ae]s?){_GAP}){{0,2}}(?:{_WORD}(?:{_GAP}{_WORD}){{1,4}}{_NAME_ENDS}|{_WORD})"
    rf"{_BEHIND_ABROAD}"
)
# The kind of street, its name, the number: Spanish, Portuguese, Italian, Belgian French, Polish, Romanian.
_STREETS_BEFORE = (
    r"calle|carrer|avenida|avda\.?|av\.|paseo|plaza|pza\.?|carretera|ctra\.?|camino|ronda|travesia|rambla"
    "|glorieta|viale|piazza|piazzale|corso|vicolo|largo|lungo[a-z]{3,9}|strada|rua|travessa|estrada|alameda|praca|rue"
    r"|avenue|boulevard|chaussee|ul\.|ulica|aleja"
)
_KIND_FIRST = (
    rf"{_BEGIN}(?:{_NUMBER},?{_GAP})?"
    rf"(?:(?:{_STREETS_BEFORE}|(?:{_FIRST}|(?<=\bin |\bat |\bto |\bis |\bon ))via){_GAP}|c/(?!o ) ?)"
    rf"(?:{_WORD}\.?,?{_GAP}){{1,6}}?(?:{_NUMBER_BEHIND}|s/n{_END}){_BEHIND_ABROAD}"
)
# The name and the kind of street, in one word or two, and the number: German, Dutch, Scandinavian, Finnish, Hungarian.
_ENDINGS = (
    r"strasse|strassen|str|str\.|weg|gasse|allee|platz|damm|ufer|chaussee|stieg|steig|pfad|promenade|parkring|straat"
    "|laan|gracht|plein|kade|singel|steeg|dreef|vej|gade|gata|gatan|gaten|vagen|stigen|straede|straeti|veien|vegen"
    "|vegur|stigur|braut|katu|kuja|polku|ntie"
)
_KINDS = (
    r"strasse|str\.?|allee|chaussee|platz|weg|gasse|ring|damm|ufer|straat|laan|gracht|plein|singel|vei|utca|krt\.?"
    r"|fasor|(?:ut|u\.|ter)(?= [0-9]{1,4}\.)"
)
_IN_WORD = r"[^\s\d,;:!?()\"<>\\/@_]"
_KIND_LAST = (
    rf"{_BEGIN}(?:{_NUMBER},?{_GAP})?"
    rf"(?:{_FIRST}(?:{_WORD}\.?{_GAP}){{1,2}}?|(?:alte|neue|untere|obere|kleine|grosse){_GAP})?"
    rf"(?:{_IN_WORD}{{3,40}}+(?=(?<=\.)[0-9]| {{1,2}}[0-9])"
    rf"(?:{'|'.join(f'(?<={_IN_WORD}{_IN_WORD}{ending})' for ending in _ENDINGS.split('|'))})"
    r"(?<!brigade)(?<!renegade)(?<!substr)(?<!constr)"
    rf"|{_WORD}\.?[ -](?:{_KINDS})(?=(?<=\.)[0-9]| {{1,2}}[0-9])) {{0,2}}{_NUMBER_BEHIND}{_BEHIND_ABROAD}"
)
# Am Alten Markt 3.
_AT_PLACES = (
    "markt|tor|berg|bach|bahnhof|wall|graben|anger|hang|feld|wald|muhle|kirche|schloss|brunnen|hof|see|park|linden"
)
_BY_PLACE = (
    rf"{_BEGIN}(?:am|an der|auf d(?:em|er)|im|in der|unter den|zum|zur)"
    rf"(?: {_WORD}){{0,2}}? [^\W\d_]{{0,24}}?(?:{_AT_PLACES}) (?=[0-9]){_NUMBER_BEHIND}{_NAME_ENDS}{_BEHIND_ABROAD}"
)
_BOXES = (
    r"p\.? ?o\.? ?box|post(?:al)?(?: office)? ?box|postboks|postbus|postfach|boite postale|casella postale|caixa postal"
    r"|apartado(?: de correos| postal)?|apdo\.?|(?:psc|unit)(?= [0-9]{1,5},? box)"
)
_BOX = (
    rf"{_BEGIN}(?:(?:{_BOXES})(?: no\.?)? ?#?[0-9]{{1,6}}(?: [0-9]{{2}}){{0,2}}(?:,? box [0-9]{{1,5}})?{_END}"
    rf"{_BEHIND_ABROAD}"
    rf"|(?:us(?:s|ns|nv|cgc){_GAP}{_WORD}{_NEXT})?[adf]po{_GAP}a[aep]{_GAP}[0-9]{{5}}{_CODE_ENDS})"
)

_FORMS = [
    re.compile(form) for form in (_ENGLISH, _WITH_FLAT, _WITH_CODE, _FRENCH, _KIND_FIRST, _KIND_LAST, _BY_PLACE, _BOX)
]
# A flat that is named before the street, with its number or with the street's first taken for that.
_UNIT_BEFORE = re.compile(rf"{_BEGIN}(?:{_UNIT}{_NEXT}|(?:{_FLAT}|flat)\.? )\Z")
_UNIT_WITHIN = 30

# Matches wherever one of the forms could.
_HINTS = "|".join(
    (
        rf"[0-9][^\r\n]* ({_STREETS}|{_MAYBE_STREETS}|green|route|rte|broadway|{_FRENCH_STREETS})($|[^a-z0-9])",
        rf"[0-9][^0-9]*({_FLAT})\.? ?#?[0-9]",
        rf"[0-9][^0-9]*([^a-z]|\\[nr])([a-z]{{2}}|nsw|vic|qld|tas|{_COUNTRIES})([^a-z0-9]|\\[nr])+([0-9]{{5}}|{_CANADIAN})",
        rf"(({_STREETS_BEFORE}|via) |c/)[^0-9\r\n]*([0-9]|s/n)",
        rf"({_ENDINGS}|{_KINDS}) *[0-9]",
        rf"({_AT_PLACES}) [0-9]",
        rf"({_BOXES})[^0-9]{{0,6}}[0-9]",
        "[adf]po {1,2}a[aep]",
    )
)
HINT = re.sub(r"\(\?<?[=!][^()]*\)", "", _HINTS).encode()  # Hyperscan does not look around


def find_addresses(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where in a folded text addresses are, and each in one spelling; none overlap."""
    start = end = 0
    for first, last in sorted(match.span() for form in _FORMS for match in form.finditer(text)):
        if first >= end:
            if end:
                yield _with_unit(text, start, end)
            start = first
        end = max(end, last)
    if end:
        yield _with_unit(text, start, end)


def _with_unit(text: str, start: int, end: int) -> tuple[int, int, str]:
    unit = _UNIT_BEFORE.search(text, max(0, start - _UNIT_WITHIN), start)
    start = unit.start() if unit else start
    value = re.sub(r"[\W_]+", " ", re.sub(r"\\[nrt]", " ", text[start:end]))
    return start, end, value.strip()
