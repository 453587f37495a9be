"""ebRIM objects: text -> objects -> text without loss, stand-alone classifications, identifiers of a request."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.xds.samples import references, registry_objects
from xds import rim
from xds.rim import Classification, ExternalIdentifier, Localized, RegistryObject, Slot
from xds.vocabulary import RIM
from xds.xml import Element, parse


def container(content: str) -> Element:
    return parse(f'<rim:RegistryObjectList xmlns:rim="{RIM}">{content}</rim:RegistryObjectList>'.encode())


def reread(objects: Iterable[RegistryObject]) -> list[RegistryObject]:
    return rim.read_list(container("".join(map(rim.write, objects))))[0]


@given(st.lists(registry_objects, max_size=3), references)
@settings(max_examples=40)
def test_what_is_written_is_read(objects, refs):
    read, read_refs, unknown = rim.read_list(container(rim.write_refs(refs) + "".join(map(rim.write, objects))))
    assert (read, read_refs, unknown) == (objects, refs, [])


def test_everything_of_an_object_is_read_with_its_line():
    thing = rim.read_list(container(
        '\n<rim:ExtrinsicObject id="d" lid="l" home="h" objectType="o" status="s" mimeType="m">'
        '\n<rim:Slot name="a" slotType="t"><rim:ValueList><rim:Value> 1 </rim:Value>'
        "\n<rim:Value>2<!-- no -->3</rim:Value></rim:ValueList></rim:Slot>"
        '<rim:Name><rim:LocalizedString xml:lang="fr" charset="UTF-8" value="Titre"/>'
        '<rim:LocalizedString value="Title"/></rim:Name><rim:Description/><rim:VersionInfo versionName="2"/>'
        '<rim:Classification id="c" classificationScheme="x" nodeRepresentation="n" classifiedObject="d"/>'
        '<rim:ExternalIdentifier id="e" identificationScheme="y" value="v" registryObject="d"/><rim:Other/>'
        "</rim:ExtrinsicObject>"))[0][0]
    assert thing == RegistryObject(
        "ExtrinsicObject", "d", "l", "h", "s", "o", "m", name=(Localized("Titre", "fr", "UTF-8"), Localized("Title")),
        version="2", slots=(Slot("a", ("1", "23"), "t"),),
        classifications=(Classification("x", "", "n", "d", "c"),),
        external_identifiers=(ExternalIdentifier("y", "v", "d", "e"),))
    assert (thing.line, thing.slots[0].line) == (2, 3)
    assert thing.slot("a") == ("1", "23")
    assert thing.slot("b") == ()
    assert [item.id for item in thing.in_scheme("x")] == ["c"]
    assert [item.value for item in thing.identifiers("y")] == ["v"]
    assert list(rim.all_ids(thing)) == ["d", "c", "e"]


def test_a_no_break_space_is_content():
    thing = RegistryObject("ExtrinsicObject", slots=(Slot("a", ("\u00a0b\u2003",)),))
    assert reread([thing]) == [thing]


def test_a_loose_classification_goes_to_its_object():
    objects, _, unknown = rim.read_list(container(
        '<rim:Classification classifiedObject="p" classificationNode="n"/><rim:RegistryPackage id="p"/>'
        '<rim:RegistryPackage id="q"/><rim:Classification classifiedObject="nobody" classificationNode="n"/>'))
    assert [thing.is_node("n") for thing in objects] == [True, False]
    assert unknown == []


def test_unknown_objects_are_handed_back():
    _, _, unknown = rim.read_list(container("<rim:Service/><!-- no --><other/>text"))
    assert [element.tag for element in unknown] == [f"{{{RIM}}}Service", "other"]


def test_what_is_stored_stands_around_what_the_registry_owns():
    thing = RegistryObject("ExtrinsicObject", "d", status="s", slots=(Slot("a", ("1",)),),
                           classifications=(Classification("x"),))
    stored = rim.fragments(thing)
    changed = RegistryObject("ExtrinsicObject", "d", status="t", version="7", lid="l")
    read = rim.read_list(container(rim.write_with(changed, stored)))[0][0]
    assert (read.status, read.version, read.lid, read.slots, read.classifications) == (
        "t", "7", "l", thing.slots, thing.classifications)


def test_first_and_localized():
    assert rim.localized("") == ()
    assert rim.first(rim.localized("a", "fr")) == "a"
    assert rim.first(()) == ""


# --- identifiers ---------------------------------------------------------------------------------------------------


def numbered(start: int = 0):
    count = start

    def following() -> str:
        nonlocal count
        count += 1
        return f"urn:uuid:00000000-0000-0000-0000-{count:012d}"

    return following


UPPER, LOWER = "urn:uuid:7EDCA82F-054D-47F2-A032-9B2A5B5186C1", "urn:uuid:7edca82f-054d-47f2-a032-9b2a5b5186c1"


def test_symbols_become_the_same_uuid_everywhere():
    objects = [
        RegistryObject("Association", "a1", source="set", target="doc"),
        RegistryObject("RegistryPackage", "set", classifications=(Classification("", "n", "", "set", "c"),)),
        RegistryObject("ExtrinsicObject", "doc", external_identifiers=(ExternalIdentifier("s", "v", "doc", "e"),)),
    ]
    (link, package, document), known = rim.resolve(objects, numbered())
    assert known == {"a1": link.id, "set": package.id, "doc": document.id}
    assert (link.source, link.target) == (package.id, document.id)
    assert package.classifications[0].classified_object == package.id
    assert document.external_identifiers[0].registry_object == document.id
    every = [identity for thing in (link, package, document) for identity in rim.all_ids(thing)]
    assert all(rim.is_uuid_urn(identity) for identity in every)
    assert len(set(every)) == 5


def test_uuids_are_kept_in_lower_case():
    objects = [RegistryObject("ExtrinsicObject", UPPER, lid=UPPER, classifications=(Classification("x", id=UPPER),)),
               RegistryObject("Association", "a", source=LOWER, target=UPPER.replace("7E", "8E"))]
    (document, link), known = rim.resolve(objects, numbered())
    assert (document.id, document.lid, document.classifications[0].id) == (LOWER, LOWER, LOWER)
    assert (link.source, link.target) == (LOWER, LOWER.replace("7e", "8e"))
    assert known[UPPER] == LOWER


def test_references_to_nobody_stay():
    (link,), _ = rim.resolve([RegistryObject("Association", "a", source="nobody", target="")], numbered())
    assert (link.source, link.target, link.lid) == ("nobody", "", "")


def test_objects_without_an_id_get_one_each():
    (one, two), known = rim.resolve([RegistryObject("Association", "", source="", target="x")] * 2, numbered())
    assert one.id != two.id
    assert rim.is_uuid_urn(one.id)
    assert (one.source, known) == ("", {})


@given(st.lists(registry_objects, max_size=4))
@settings(max_examples=40)
def test_every_id_is_a_uuid_afterwards_and_resolving_again_changes_nothing(objects):
    resolved, _ = rim.resolve(objects, numbered())
    again, _ = rim.resolve(resolved, numbered(1000))
    assert all(rim.is_uuid_urn(identity) for thing in resolved for identity in rim.all_ids(thing))
    assert again == resolved
