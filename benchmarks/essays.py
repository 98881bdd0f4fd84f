"""Essays as classes hand them in, with the ways in which their authors are hard to tell."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple
from unicodedata import combining, normalize

from onefold_server.domains.classroom.matching import Essay, Pupil

_FIRST_NAMES: Final = """
Alice Maja Vera Alma Selma Elsa Lilly Astrid Wilma Freja Olivia Ebba Saga Agnes Ines Stella Julia
Clara Tyra Sigrid Leah Nova Signe Ellie Iris Molly Nora Ellen Juni Edith Noah William Hugo Lucas
Liam Oliver Elias Adam August Sam Walter Ludvig Otto Alfred Nils Malte Arvid Isak Filip Viggo Theo
Björn Göran Åsa Märta Örjan Håkan Zoë José Chloé Renée Amira Fatima Layla Yasmin Zeynep Omar Yusuf
Ali Hassan Mohammed Ibrahim Aino Eino Veikko Siobhán Seán Nguyên Linh Mei Jakub Łukasz Zofia Søren
Bo My Li Sten Björk Anna Karin Eva Lars Per Erik Erika Maria Marie Kristina Christina
Anna-Lena Carl-Johan Eva-Marie Lars-Erik
"""
_SECONDS: Final = ["Maria", "Karin", "Johan", "Elisabet", "Erik", "Lisa", "Sofia"]
_LAST_NAMES: Final = """
Andersson Johansson Karlsson Nilsson Eriksson Larsson Olsson Persson Svensson Gustafsson Pettersson
Jonsson Jansson Hansson Bengtsson Jönsson Lindberg Jakobsson Magnusson Olofsson Lindström Lindqvist
Lindgren Axelsson Berg Bergström Lundberg Lind Lundgren Lundqvist Mattsson Berglund Fredriksson
Sandberg Henriksson Forsberg Sjöberg Wallin Engström Eklund Danielsson Lundin Håkansson Björk
Bergman Gunnarsson Holm Wikström Samuelsson Isaksson Fransson Bergqvist Nyström Holmberg Arvidsson
Löfgren Söderberg Nyberg Blomqvist Claesson Nordström Mårtensson Lundström Eliasson Pålsson Åström
Öberg Oberg Ström Ek Svartling Taskinen Uppman Frågell Yılmaz Kaya Demir Hussein Ahmed Nguyen Tran
O’Brien D’Angelo Kowalski Nowak Müller Weiß García Márquez Sørensen Ødegård Virtanen Korhonen Shah
"""
_FIRSTS: Final = _FIRST_NAMES.split()
_LASTS: Final = _LAST_NAMES.split()
_LONG_LASTS: Final = [
    "von Sydow", "af Klint", "de la Cruz", "van der Berg", "García Márquez", "Lind Karlsson",
    "Al-Hassan", "Berg-Nilsson", "El Khoury",
]  # fmt: skip
_TITLES: Final = [
    "Drömmen om Amerika", "My Favorite Character", "Romeo and Julia", "En dag vid havet", "Skolan",
    "Argumenterande text: läxor", "The Book Thief", "Om Selma Lagerlöf", "Vem är jag?", "My Summer",
    "Astrid Lindgren och barnboken", "Bo i stan eller på landet", "Climate", "Sten, sax, påse",
]  # fmt: skip
_PROSE: Final = [
    "Det började en tidig morgon i maj, när snön ännu låg kvar i skuggan av de höga granarna.",
    "When I think about my future, I often wonder what will become of the small town we live in.",
    "Man kan tycka vad man vill om läxor, men de flesta av oss gör dem ändå till slut, sent.",
    "Hon lade ner boken på bordet. Ingen sade något. Utanför fönstret regnade det stilla.",
    "In my opinion this is one of the most important questions, and nobody gives it any time.",
    "Karaktärens utveckling visar hur svårt det är att växa upp när alla andra redan vet bäst.",
    "Jag minns särskilt en kväll. Vi satt vid elden, och lindarna susade, och berget var mörkt.",
    "First of all, the story is told by a boy who does not understand what happens around him.",
]  # fmt: skip
_TEACHERS: Final = ["Gunilla Rask", "Peter Holmqvist", "Anna Nordin", "Karin Berg", "Eva Lund"]
_CLASSES: Final = ["SA24D", "NA23B", "TE22A", "9B", "EK24C"]


class Written(NamedTuple):
    """
    An essay and the truth about it.

    Attributes:
        essay: What is handed in.
        author: The pupil's id.
        case: Which way of being hard it is.
        decidable: Whether it says enough for a person with the roster to be sure.
    """

    essay: Essay
    author: str
    case: str
    decidable: bool


@dataclass
class _Writer:
    """One pupil about to write, and how the name is spelt today."""

    random: Random
    pupil: Pupil
    mates: Sequence[Pupil]

    @property
    def name(self) -> str:
        return f"{self.pupil.first_name} {self.pupil.last_name}"

    @property
    def teacher(self) -> str:
        return self.random.choice(_TEACHERS)

    @property
    def mate(self) -> str:
        other = self.random.choice([m for m in self.mates if m.id != self.pupil.id])
        return f"{other.first_name} {other.last_name}"

    def text(self, *header: str, footer: Sequence[str] = ()) -> str:
        body = [self.random.choice(_PROSE) for _ in range(self.random.randint(8, 30))]
        return "\n".join([*header, "", self.random.choice(_TITLES), "", *body, "", *footer])

    @property
    def day(self) -> str:
        return f"2026-{self.random.randint(1, 12):02}-{self.random.randint(1, 28):02}"

    @property
    def group(self) -> str:
        return self.random.choice(_CLASSES)

    @property
    def label(self) -> str:
        return self.random.choice(["Namn:", "Name:", "Elev:", "Författare:", "Student:", "By:"])


Made = tuple[str, str]  # text and file name


def _labelled(w: _Writer) -> Made:
    tail = w.random.choice(["", f" Klass: {w.group}", f"   Datum: {w.day}", f", {w.group}"])
    return w.text(f"{w.label} {w.name}{tail}"), ""


def _own_line(w: _Writer) -> Made:
    return w.text(w.name, w.random.choice([w.group, w.day, "Svenska 1"])), ""


def _exam_line(w: _Writer) -> Made:
    return w.text(f"{w.name} {w.day} {w.group}"), ""


def _file_only(w: _Writer) -> Made:
    joined = w.random.choice([" ", "_", "-"]).join([w.pupil.first_name, w.pupil.last_name])
    return w.text(), w.random.choice([f"{joined}.docx", f"{w.group}_Svenska_{joined}_v2.pdf"])


def _camel_file(w: _Writer) -> Made:
    return w.text(), f"{w.pupil.first_name}{w.pupil.last_name}.docx".replace(" ", "")


def _email_only(w: _Writer) -> Made:
    return w.text(w.pupil.email or "", w.group), ""


def _name_and_email(w: _Writer) -> Made:
    return w.text(f"{w.name}, {w.pupil.email}"), ""


def _signature(w: _Writer) -> Made:
    return w.text(footer=[w.random.choice(["/", "Av ", ""]) + w.name]), ""


def _turned(w: _Writer) -> Made:
    return w.text(f"{w.random.choice(['', 'Namn: '])}{w.pupil.last_name}, {w.pupil.first_name}"), ""


def _plain_letters(w: _Writer) -> Made:
    apart = normalize("NFD", w.name)
    plain = "".join(letter for letter in apart if not combining(letter))
    return w.text(plain.replace("ø", "o").replace("ß", "ss")), ""


def _typo(w: _Writer) -> Made:
    return w.text(f"{w.label} {misspelt(w.name, w.random)}"), ""


def _capitals(w: _Writer) -> Made:
    return w.text(w.name.upper()), ""


def _middle_initial(w: _Writer) -> Made:
    initial = w.random.choice("ABEKMS")
    return w.text(f"{w.pupil.first_name} {initial}. {w.pupil.last_name}"), ""


def _composed(w: _Writer) -> Made:
    return normalize("NFD", w.text(f"{w.label} {w.name}")), ""


def _teacher_too(w: _Writer) -> Made:
    teacher = w.random.choice([f"Lärare: {w.teacher}", f"Teacher: {w.mate}", f"Till {w.teacher}"])
    return w.text(*w.random.sample([teacher, f"Namn: {w.name}"], 2)), ""


def _mate_in_text(w: _Writer) -> Made:
    said = f"Jag och {w.mate} gick hem genom skogen, och vi sade inget på hela vägen dit."
    return w.text(w.name, "", said), ""


def _half_and_half(w: _Writer) -> Made:
    return w.text(w.pupil.first_name), f"{w.pupil.last_name}_uppsats.docx"


def _double(w: _Writer) -> Made:
    return w.text(f"Namn: {w.name}"), f"{w.name}.docx"


def _initial(w: _Writer) -> Made:
    return w.text(f"{w.pupil.first_name[0]}. {w.pupil.last_name}"), ""


def _first_only(w: _Writer) -> Made:
    return w.text(w.pupil.first_name), ""


def _nobody(w: _Writer) -> Made:
    return w.text(), w.random.choice(["uppsats.docx", "essay_final.pdf", ""])


def _outsider(w: _Writer) -> Made:
    """Somebody of another class, whose name is drawn from the same ones."""
    return w.text(f"Namn: {w.random.choice(_FIRSTS)} {w.random.choice(_LASTS)}"), ""


def _mates_title(w: _Writer) -> Made:
    return w.text(f"Ett brev till {w.mate}", "", f"Namn: {w.name}"), ""


# (case, share of the essays in a thousand, whether a person could be sure, how it is made)
CASES: Final[Sequence[tuple[str, int, bool, Callable[[_Writer], Made]]]] = [
    ("after a label", 180, True, _labelled),
    ("own line", 150, True, _own_line),
    ("exam line", 130, True, _exam_line),
    ("name and file name", 60, True, _double),
    ("file name only", 70, True, _file_only),
    ("file name in camel case", 20, True, _camel_file),
    ("address only", 40, True, _email_only),
    ("name and address", 40, True, _name_and_email),
    ("signed at the end", 50, True, _signature),
    ("swapped order", 50, True, _turned),
    ("missing diacritics", 40, True, _plain_letters),
    ("misspelt", 50, True, _typo),
    ("capitals", 10, True, _capitals),
    ("middle initial", 15, True, _middle_initial),
    ("decomposed letters", 10, True, _composed),
    ("teacher in the header", 25, True, _teacher_too),
    ("classmate in the text", 15, True, _mate_in_text),
    ("classmate in the title", 5, True, _mates_title),
    ("first name here, last name there", 10, True, _half_and_half),
    ("initial and last name", 7, False, _initial),
    ("first name alone", 7, False, _first_only),
    ("nobody named", 6, False, _nobody),
    ("a pupil of another class", 10, False, _outsider),
]
_NAMELESS: Final = frozenset({"address only", "name and address"})  # an address tells twins apart


def misspelt(name: str, random: Random) -> str:
    """*name* with one slip: a letter left out, doubled, replaced or swapped with the next."""
    letters = [i for i, letter in enumerate(name) if letter.isalpha()]
    at = random.choice(letters[1:-1])
    kind = random.randrange(4)
    if kind == 0:
        return name[:at] + name[at + 1 :]
    if kind == 1:
        return name[: at + 1] + name[at:]
    if kind == 2:
        return name[:at] + random.choice("aeinrst") + name[at + 1 :]
    return name[:at] + name[at : at + 2][::-1] + name[at + 2 :]


def classes(random: Random, *, essays: int) -> Iterator[tuple[list[Pupil], list[Written]]]:
    """Classes of 20 to 35 pupils and their essays, until there are so many essays."""
    left = essays
    while left:
        pupils = _class(random, random.randint(20, 35))
        written = _essays(random, pupils)[:left]
        left -= len(written)
        yield pupils, written


def _class(random: Random, size: int) -> list[Pupil]:
    pupils: list[Pupil] = []
    for number in range(size):
        first, last = random.choice(_FIRSTS), random.choice(_LASTS)
        if random.random() < 0.06:
            last = random.choice(_LONG_LASTS)
        if random.random() < 0.04:
            first = f"{first} {random.choice(_SECONDS)}"
        if pupils and random.random() < 0.008:  # another pupil of the same name
            first, last = random.choice(pupils)[1:3]
        email = f"hg{random.randrange(10_000, 99_999)}{number:02}@skola.example"
        pupils.append(Pupil(f"p{number}", first, last, email))
    return pupils


def _essays(random: Random, pupils: Sequence[Pupil]) -> list[Written]:
    names = [(pupil.first_name, pupil.last_name) for pupil in pupils]
    every = []
    for pupil in pupils:
        twins = names.count((pupil.first_name, pupil.last_name)) > 1
        # One in a hundred hands in a second file, which makes both undecidable.
        files = 2 if random.random() < 0.01 else 1
        every += [_one(random, pupil, pupils, twins=twins, alone=files == 1) for _ in range(files)]
    random.shuffle(every)
    return [
        written._replace(essay=written.essay._replace(id=f"e{number}"))
        for number, written in enumerate(every)
    ]


def _one(
    random: Random, pupil: Pupil, pupils: Sequence[Pupil], *, twins: bool, alone: bool
) -> Written:
    ((case, _, decidable, make),) = random.choices(CASES, [share for _, share, *_ in CASES])
    text, file_name = make(_Writer(random, pupil, pupils))
    if twins and case not in _NAMELESS:
        case, decidable = "pupils of one name", False
    if case == "a pupil of another class":
        return Written(Essay("", text, file_name), "", case, decidable)
    if not alone:
        case, decidable = "two essays of a pupil", False
    return Written(Essay("", text, file_name), pupil.id, case, decidable)
