"""Ontology files that are wrong, and what is said about each: (name, files, message). The first file is the one that is read.

``{dir}`` stands for the folder of the files. A message is the whole text of the error.
"""

from __future__ import annotations

from typing import NamedTuple

PREFIXES = "@prefix : <http://x.org/#> .\n@prefix owl: <http://www.w3.org/2002/07/owl#> .\n"
RDF = 'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:owl="http://www.w3.org/2002/07/owl#"'
OWX = '<Ontology xmlns="http://www.w3.org/2002/07/owl#" ontologyIRI="http://x.org/">\n'
ONLY_SHORT = 'only short names such as <!ENTITY owl "http://www.w3.org/2002/07/owl#"> may be declared'


class Broken(NamedTuple):
    """One case."""

    name: str
    files: dict[str, bytes | str]
    message: str


def laughs(root: str) -> str:
    """An XML text whose entities grow tenfold at each level."""
    levels = "".join(
        f'<!ENTITY l{n} "{"&l" + str(n - 1) + ";":s}{("&l" + str(n - 1) + ";") * 9}">\n' for n in range(1, 10)
    )
    return f'<?xml version="1.0"?>\n<!DOCTYPE x [\n<!ENTITY l0 "ha">\n{levels}]>\n{root}'


CASES = (
    Broken(
        "an unknown suffix",
        {"x.docx": "PK"},
        "{dir}/x.docx: unknown ontology format '.docx'; "
        "known: .ttl, .owl, .rdf, .xml, .nt, .jsonld, .ofn, .omn, .owx, .obo",
    ),
    Broken("an empty file", {"x.ttl": ""}, "{dir}/x.ttl: the file is empty"),
    Broken("only blanks", {"x.owl": " \n\n"}, "{dir}/x.owl: the file is empty"),
    Broken(
        "Latin-1",
        {"x.ttl": PREFIXES.encode() + '# a\n:a :b "Röntgen" .'.encode("latin-1")},
        "{dir}/x.ttl:4: not UTF-8 text: byte 0xf6; save the file as UTF-8",
    ),
    Broken(
        "UTF-16",
        {"x.ttl": PREFIXES.encode("utf-16")},
        "{dir}/x.ttl:1: this is UTF-16 text, expected UTF-8; save the file as UTF-8",
    ),
    Broken(
        "a NUL byte",
        {"x.ttl": PREFIXES + ":a \0 :b ."},
        "{dir}/x.ttl:3: holds a NUL byte, so it is no text; is this the right file?",
    ),
    Broken(
        "binary",
        {"x.obo": b"\x89PNG\r\n\x1a\n\0\0"},
        "{dir}/x.obo:3: holds a NUL byte, so it is no text; is this the right file?",
    ),
    Broken(
        "an unknown prefix",
        {"x.ttl": PREFIXES + ":a a ex:Class ."},
        "{dir}/x.ttl:3:6: Turtle syntax: The prefix ex: has not been declared, found 'ex:Class .'; "
        "declare the prefix at the top of the file",
    ),
    Broken(
        "an unterminated string",
        {"x.ttl": PREFIXES + ':a :b "right lung .\n:c :d :e .'},
        "{dir}/x.ttl:3:7: Turtle syntax: a text that begins here is never closed, found '\"right lung .'",
    ),
    Broken(
        "an unterminated long string",
        {"x.ttl": PREFIXES + ':a :b """right lung" .\n:c :d :e .'},
        '{dir}/x.ttl:3:7: Turtle syntax: a text that begins here is never closed, found \'"""right lung" .\'',
    ),
    Broken(
        "a missing dot",
        {"x.ttl": PREFIXES + ":a a owl:Class\n:b a owl:Class ."},
        "{dir}/x.ttl:4:1: Turtle syntax: A dot is expected at the end of statements, found ':b a owl:Class .'",
    ),
    Broken(
        "a truncated Turtle file",
        {"x.ttl": PREFIXES + ":a a owl:Class ;\n"},
        "{dir}/x.ttl:4:1: Turtle syntax: the file ends too early; is it complete?",
    ),
    Broken(
        "smart quotes in Turtle",
        {"x.ttl": PREFIXES + ":a :b “right lung”@en ."},
        "{dir}/x.ttl:3:7: Turtle syntax: '“' is not allowed at the beginning of a prefix name, found "
        "'“right lung”@en .'; write plain ASCII quotes instead of “",
    ),
    Broken(
        "a relative IRI in Turtle",
        {"x.ttl": PREFIXES + "<lung> a owl:Class ."},
        "{dir}/x.ttl:3:1: Turtle syntax: a relative IRI means another thing in every folder, found "
        "'<lung> a owl:Class .'; write the whole IRI, or declare a base at the top of the file",
    ),
    Broken(
        "a relative base",
        {"x.ttl": "@base <here/> .\n<lung> a <http://x.org/C> ."},
        "{dir}/x.ttl:1:7: Turtle syntax: a relative IRI means another thing in every folder, found "
        "'<here/> .'; write the whole IRI, or declare a base at the top of the file",
    ),
    Broken(
        "a space in an IRI",
        {"x.ttl": PREFIXES + "<http://x.org/right lung> a owl:Class ."},
        "{dir}/x.ttl:3:1: Turtle syntax: Invalid IRI code point ' ', found '<http://x.org/right lung> a "
        "ow'; an IRI holds no blanks, quotes or braces",
    ),
    Broken(
        "a triple inside a triple",
        {"x.ttl": PREFIXES + ":a :b <<( :c :d :e )>> ."},
        "{dir}/x.ttl:3: a triple inside a triple (RDF 1.2) means nothing in OWL",
    ),
    Broken(
        "a class expression nested 100,000 levels deep",
        {"x.ttl": PREFIXES + ":a :b " + "[ :c " * 100_000 + "1" + "]" * 100_000 + " ."},
        "{dir}/x.ttl:3: class expressions are nested deeper than 100; give the inner ones names",
    ),
    Broken(
        "lists nested 100,000 levels deep",
        {"x.ttl": PREFIXES + ":a :b " + "(" * 100_000 + ")" * 100_000 + " ."},
        "{dir}/x.ttl:3: class expressions are nested deeper than 100; give the inner ones names",
    ),
    Broken(
        "brackets that never close",
        {"x.ttl": PREFIXES + ":a :b " + "(" * 100_000},
        "{dir}/x.ttl:3:100007: Turtle syntax: the file ends too early; is it complete?",
    ),
    Broken(
        "a text of two million characters",
        {"x.ttl": PREFIXES + ':a :b "' + "long " * 400_000 + '" .'},
        "{dir}/x.ttl:3: a text of 2,000,000 characters for 'b', the limit is 1,000,000; shorten it",
    ),
    Broken(
        "a text of twenty million characters",
        {"x.ttl": PREFIXES + ':a :b "' + "long " * 4_000_000 + '" .'},
        "{dir}/x.ttl:3: a text of more than 16 MB; shorten it",
    ),
    Broken(
        "RDF/XML in a Turtle file",
        {"x.ttl": f'<?xml version="1.0"?>\n<rdf:RDF {RDF}></rdf:RDF>'},
        "{dir}/x.ttl:1:1: Turtle syntax: Invalid IRI code point ' ', found '<?xml version=\"1.0\"?>'; "
        "the content looks like RDF/XML: rename the file to x.owl",
    ),
    Broken(
        "N-Triples without a dot",
        {"x.nt": "<http://x.org/a> <http://x.org/b> <http://x.org/c>\n"},
        "{dir}/x.nt:2:1: N-Triples syntax: Quads must be followed by a dot",
    ),
    Broken(
        "a relative IRI in N-Triples",
        {"x.nt": "<a> <http://x.org/b> <http://x.org/c> ."},
        "{dir}/x.nt:1:1: N-Triples syntax: a relative IRI means another thing in every folder, found "
        "'<a> <http://x.org/b> <http://x'; write the whole IRI",
    ),
    Broken(
        "JSON-LD with its context on the network",
        {"x.jsonld": '{\n"@context": "https://schema.org/",\n"@id": "http://x.org/a"}'},
        "{dir}/x.jsonld:2: JSON-LD: the @context 'https://schema.org/' is not in this file; "
        "write the context into the file (nothing is fetched from the network)",
    ),
    Broken(
        "JSON-LD with one context of several on the network",
        {"x.jsonld": '{\n"@context": [{"a": "http://x.org/"}, "https://schema.org/"],\n"@id": "http://x.org/a"}'},
        "{dir}/x.jsonld:2: JSON-LD: the @context 'https://schema.org/' is not in this file; "
        "write the context into the file (nothing is fetched from the network)",
    ),
    Broken(
        "JSON that ends too early",
        {"x.jsonld": '{"@id": "http://x.org/a",\n"http://x.org/b": 1'},
        "{dir}/x.jsonld:2:20: JSON-LD syntax: Object values must be followed by a comma to add a new "
        "value or a curly bracket to end the object",
    ),
    Broken(
        "deep JSON",
        {"x.jsonld": '{"@id":"http://x.org/a","http://x.org/b":' * 70_000 + "1" + "}" * 70_000},
        "{dir}/x.jsonld:1:2687018: JSON-LD syntax: Max stack size of 65536 reached on an object "
        'opening, found \'{"@id":"http://x.org/a","http:\'',
    ),
    Broken(
        "tags that do not match",
        {"x.owl": f'<rdf:RDF {RDF}>\n<owl:Class rdf:about="http://x.org/a">\n</owl:Clas>\n</rdf:RDF>'},
        "{dir}/x.owl:3:3: XML: mismatched tag, found 'owl:Clas>'; <Class> of line 2 is still open",
    ),
    Broken(
        "a truncated RDF/XML file",
        {"x.owl": f'<rdf:RDF {RDF}>\n<owl:Class rdf:about="http://x.org/a">\n'},
        "{dir}/x.owl:3:1: XML: the file ends too early; <Class> of line 2 is still open",
    ),
    Broken(
        "an undeclared XML prefix",
        {"x.owl": f"<rdf:RDF {RDF}>\n<ex:Class/>\n</rdf:RDF>"},
        "{dir}/x.owl:2:1: XML: unbound prefix, found '<ex:Class/>'",
    ),
    Broken(
        "a relative IRI in RDF/XML",
        {
            "x.owl": f'<rdf:RDF {RDF}>\n<owl:Class rdf:about="http://x.org/a"/>\n<owl:Class rdf:about="#lung"/>\n</rdf:RDF>'
        },
        "{dir}/x.owl:3: RDF/XML syntax: a relative IRI means another thing in every folder; "
        "write the whole IRI, or declare a base at the top of the file",
    ),
    Broken(
        "a web page",
        {"x.owl": "<!DOCTYPE html>\n<html><body/></html>"},
        "{dir}/x.owl:1: the root element is <html>, expected <rdf:RDF> or <Ontology>; is this the right file?",
    ),
    Broken(
        "billion laughs in RDF/XML",
        {"x.owl": laughs(f"<rdf:RDF {RDF}>&l9;</rdf:RDF>")},
        "{dir}/x.owl:4:13: the XML entity 'l1' is nested or long; "
        'only short names such as <!ENTITY owl "http://www.w3.org/2002/07/owl#"> may be declared',
    ),
    Broken(
        "billion laughs in OWL/XML",
        {"x.owx": laughs(OWX + "&l9;</Ontology>")},
        "{dir}/x.owx:4:13: the XML entity 'l1' is nested or long; "
        'only short names such as <!ENTITY owl "http://www.w3.org/2002/07/owl#"> may be declared',
    ),
    Broken(
        "an entity that reads a file",
        {"x.owl": f'<!DOCTYPE x [\n<!ENTITY e SYSTEM "file:///etc/passwd">\n]>\n<rdf:RDF {RDF}>&e;</rdf:RDF>'},
        "{dir}/x.owl:2:39: the XML entity 'e' reaches outside this file; "
        'only short names such as <!ENTITY owl "http://www.w3.org/2002/07/owl#"> may be declared',
    ),
    Broken(
        "an entity that reads the network",
        {"x.owx": f'<!DOCTYPE x [\n<!ENTITY e PUBLIC "e" "http://x.org/e">\n]>\n{OWX}&e;</Ontology>'},
        "{dir}/x.owx:2:39: the XML entity 'e' reaches outside this file; "
        'only short names such as <!ENTITY owl "http://www.w3.org/2002/07/owl#"> may be declared',
    ),
    Broken(
        "a parameter entity",
        {"x.owl": f'<!DOCTYPE x [\n<!ENTITY % e SYSTEM "http://x.org/e">\n%e;]>\n<rdf:RDF {RDF}/>'},
        "{dir}/x.owl:2:37: the XML entity 'e' reaches outside this file; "
        'only short names such as <!ENTITY owl "http://www.w3.org/2002/07/owl#"> may be declared',
    ),
    Broken(
        "an outside DTD",
        {"x.owl": f'<!DOCTYPE x SYSTEM "http://x.org/e.dtd">\n<rdf:RDF {RDF}/>'},
        "{dir}/x.owl:1:40: the DTD of this XML file lies outside it: 'http://x.org/e.dtd'; "
        "remove it from the DOCTYPE line",
    ),
    Broken(
        "RDF/XML nested 100,000 levels deep",
        {"x.owl": f"<rdf:RDF {RDF}>\n" + "<owl:Class><owl:complementOf>" * 50_000},
        "{dir}/x.owl:2:14483: XML elements are nested deeper than 1000",
    ),
    Broken(
        "an unknown element in OWL/XML",
        {
            "x.owx": OWX
            + '<SubClasOf><Class IRI="http://x.org/a"/><Class IRI="http://x.org/b"/></SubClasOf>\n</Ontology>'
        },
        "{dir}/x.owx:2:41: OWL/XML syntax: Unexpected tag: found SubClasOf; did you mean 'SubClassOf'?",
    ),
    Broken(
        "an undeclared prefix in OWL/XML",
        {"x.owx": OWX + '<Declaration>\n<Class abbreviatedIRI="ex:a"/></Declaration>\n</Ontology>'},
        "{dir}/x.owx:3: the prefix 'ex:' has not been declared; "
        'add <Prefix name="ex" IRI="http://…"/> at the top of the file',
    ),
    Broken(
        "OWL/XML nested 150 levels deep",
        {
            "x.owx": OWX
            + '<SubClassOf><Class IRI="http://x.org/a"/>'
            + "<ObjectComplementOf>" * 150
            + '<Class IRI="http://x.org/b"/>'
            + "</ObjectComplementOf>" * 150
            + "</SubClassOf></Ontology>"
        },
        "{dir}/x.owx:2: class expressions are nested deeper than 100",
    ),
    Broken(
        "an unknown axiom in functional syntax",
        {"x.ofn": "Prefix(:=<http://x.org/#>)\nOntology(<http://x.org/>\n SubClasOf(:a :b)\n)"},
        "{dir}/x.ofn:3:2: functional syntax: found 'SubClasOf(:a :b)'; did you mean 'SubClassOf'?",
    ),
    Broken(
        "an undeclared prefix in functional syntax",
        {"x.ofn": "Prefix(:=<http://x.org/#>)\nOntology(<http://x.org/>\n SubClassOf(:a ex:b)\n)"},
        "{dir}/x.ofn:3:16: functional syntax: the prefix 'ex:' has not been declared; "
        "declare it at the top of the file",
    ),
    Broken(
        "functional syntax that ends too early",
        {"x.ofn": "Prefix(:=<http://x.org/#>)\nOntology(<http://x.org/>\n SubClassOf(:a :b)\n"},
        "{dir}/x.ofn:3:19: functional syntax: the file ends too early",
    ),
    Broken(
        "functional syntax nested 100,000 levels deep",
        {
            "x.ofn": "Prefix(:=<http://x.org/#>)\nOntology(<http://x.org/>\n SubClassOf(:a "
            + "ObjectComplementOf(" * 100_000
        },
        "{dir}/x.ofn:3: class expressions are nested deeper than 100",
    ),
    Broken(
        "smart quotes in functional syntax",
        {
            "x.ofn": "Prefix(:=<http://x.org/#>)\nOntology(<http://x.org/>\n AnnotationAssertion(:label :a “right "
            "lung”)\n)"
        },
        "{dir}/x.ofn:3:32: functional syntax: found '“right lung”)', expected AnnotationValue; "
        "write plain ASCII quotes instead of “",
    ),
    Broken(
        "an unknown keyword in Manchester syntax",
        {"x.omn": "Prefix: : <http://x.org/#>\nOntology: <http://x.org/>\nClass: :a\n  SubClasOf: :b\n"},
        "{dir}/x.omn:4:3: Manchester syntax: found 'SubClasOf: :b'; did you mean 'SubClassOf'?",
    ),
    Broken(
        "an undeclared prefix in Manchester syntax",
        {"x.omn": "Prefix: : <http://x.org/#>\nOntology: <http://x.org/>\nClass: :a\n  SubClassOf: ex:b\n"},
        "{dir}/x.omn:4:15: Manchester syntax: the prefix 'ex:' has not been declared; "
        "declare it at the top of the file",
    ),
    Broken(
        "Manchester syntax nested 100,000 levels deep",
        {
            "x.omn": "Prefix: : <http://x.org/#>\nOntology: <http://x.org/>\nClass: :a\n  SubClassOf: "
            + ":p some " * 100_000
            + ":b"
        },
        "{dir}/x.omn:4: class expressions are nested deeper than 100",
    ),
    Broken(
        "OBO without a tag",
        {"x.obo": "format-version: 1.4\n\n[Term]\nid: X:1\nright lung\n"},
        "{dir}/x.obo:5: OBO syntax: found 'right lung', expected 'tag: value'",
    ),
    Broken(
        "an OBO term without an id, and one declared twice",
        {"x.obo": "format-version: 1.4\n\n[Term]\nname: lung\n\n[Term]\nid: X:1\n\n[Term]\nid: X:1\n"},
        (
            '{dir}/x.obo:3: OBO syntax: a [Term] without an id; add "id: …" as its first line\n'
            "{dir}/x.obo:10: OBO syntax: the id 'X:1' was declared already on line 7; keep one"
        ),
    ),
    Broken(
        "an OBO tag that does not exist",
        {"x.obo": "format-version: 1.4\n\n[Term]\nid: X:1\nisa: X:2\n"},
        "{dir}/x.obo:5: OBO syntax: unknown tag 'isa'; did you mean 'is_a'?",
    ),
    Broken(
        "an OBO stanza that does not exist",
        {"x.obo": "format-version: 1.4\n\n[Trem]\nid: X:1\n"},
        "{dir}/x.obo:3: OBO syntax: found '[Trem]', expected [Term], [Typedef] or [Instance]; did you mean 'Term'?",
    ),
    Broken(
        "an OBO stanza that does not close",
        {"x.obo": "format-version: 1.4\n\n[Term\nid: X:1\n"},
        "{dir}/x.obo:3: OBO syntax: found '[Term', expected [Term], [Typedef] or [Instance]; "
        'write "[", the kind and "]" on a line of their own',
    ),
    Broken(
        "an OBO comment without its mark",
        {"x.obo": "format-version: 1.4\n\n[Term]\nid: X:1\nis_a: X:2 lung\n"},
        "{dir}/x.obo:5: OBO syntax: is_a: found 'X:2 lung', expected one id; begin a comment with \" ! \"",
    ),
    Broken(
        "an OBO definition without quotes",
        {"x.obo": "format-version: 1.4\n\n[Term]\nid: X:1\ndef: “an organ” []\n"},
        "{dir}/x.obo:5: OBO syntax: def: found '“an organ” []', expected a text in quotes; "
        "write plain ASCII quotes instead of “",
    ),
    Broken(
        "an OBO intersection of one",
        {
            "x.obo": "format-version: 1.4\n\n[Term]\nid: X:1\nintersection_of: X:2\nis_obsolete: yes\nrelationship: "
            'part_of X:3 {cardinality="many"}\nname:\n'
        },
        (
            "{dir}/x.obo:5: OBO syntax: one 'intersection_of' alone says nothing, expected two or more\n"
            "{dir}/x.obo:6: OBO syntax: is_obsolete: found 'yes', expected true or false\n"
            "{dir}/x.obo:7: OBO syntax: found cardinality='many', expected a whole number\n"
            "{dir}/x.obo:8: OBO syntax: nothing after 'name:'"
        ),
    ),
    Broken(
        "an OBO line of two million characters",
        {"x.obo": "format-version: 1.4\n\n[Term]\nid: X:1\nname: " + "long " * 400_000 + "\n"},
        "{dir}/x.obo:5: OBO syntax: a line of 2,000,005 characters, the limit is 1,000,000; shorten it",
    ),
    Broken(
        "Manchester annotations of annotations without end",
        {"x.omn": "Ontology: <http://x.org/>\nClass: <http://x.org/a>\n  " + "Annotations: " * 100_000},
        "{dir}/x.omn:3: class expressions are nested deeper than 100",
    ),
    Broken(
        "the line ends of an old Macintosh",
        {"x.owl": f"<rdf:RDF {RDF}>\r<owl:Class>\r</rdf:RDF>"},
        "{dir}/x.owl:3:3: XML: mismatched tag, found 'rdf:RDF>'; <Class> of line 2 is still open",
    ),
)
