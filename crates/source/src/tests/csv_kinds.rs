//! CSV files of the kinds that people exchange (those of max-mapper/csv-spectrum, and what spreadsheets and databases
//! write), against another reader: Python's csv module says what is in them, however they are cut into splits.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use super::*;

/// Writes the files, reads each with the csv module, and prints what is in them.
const SCRIPT: &str = r#"
import csv, io, json, random, sys

csv.field_size_limit(1 << 24)

folder = sys.argv[1]
kinds = []

def add(name, data, delimiter=",", quote='"'):
    with open(f"{folder}/{name}.csv", "wb") as file:
        file.write(data)
    text = data.decode("utf-8-sig")
    dialect = {"delimiter": delimiter, "strict": True}
    if quote:
        dialect |= {"quotechar": quote}
    else:
        dialect |= {"quoting": csv.QUOTE_NONE}
    rows = [row for row in csv.reader(io.StringIO(text, newline=""), **dialect) if row]
    kinds.append({"name": name, "delimiter": delimiter, "quote": quote, "header": rows[0], "rows": rows[1:]})

for name, text in {
    "simple": "a,b,c\n1,2,3\n",
    "simple_without_a_line_break_at_the_end": "a,b,c\n1,2,3",
    "empty": 'a,b,c\n1,"",""\n2,3,4\n',
    "comma_in_quotes": 'first,last,address,city,zip\nJohn,Doe,120 any st.,"Anytown, WW",08123\n',
    "escaped_quotes": 'a,b\n1,"ha ""ha"" ha"\n3,4\n',
    "quotes_alone": 'a,b\n"""",""""""\n"a""","""b"\n',
    "json": 'key,val\n1,"{""type"": ""Point"", ""coordinates"": [102.0, 0.5]}"\n',
    "newlines": 'a,b,c\n1,2,3\n"Once upon \na time",5,6\n7,8,9\n',
    "quotes_and_newlines": 'a,b\n1,"ha \n""ha"" \nha"\n3,4\n',
    "line_breaks_alone": 'a,b\n"\n","\n\n"\n"\n\n\n",x\n',
    "location_coordinates": 'Contact Phone Number,Location Coordinates,Cities\n9999999999,"37°36\'37.8""N 121°2\'17.9""W",Livermore\n',
    "utf8": "a,b,c\n1,2,3\n4,5,ʤ\n日本,\U0001F600,e\u0301\n",
    "blanks": "a,b\n 1 ,  \n\t,x \n",
    "blank_lines": "a,b\n\n1,2\n\n\n3,4\n\n",
    "header_in_quotes": '"a b","c,d","e""f"\n1,2,3\n',
    "one_column": 'a\n1\n""\n2\n',
    "a_long_row": "a,b\n" + "x" * 300_000 + ',"' + "y\n" * 50_000 + '"\n1,2\n',
    "many_columns": ",".join(f"c{i}" for i in range(500)) + "\n" + ",".join(str(i) for i in range(500)) + "\n",
    "separators_of_other_systems": "a,b\n\x0b,\x0c\n\x1c,\x1e\n\u2028,\u0085\n",
    "backslashes": 'a,b\n\\,x\n\\n,"\\"\n',
}.items():
    data = text.encode()
    add(name, data)
    # As spreadsheets write it: CRLF, and a byte order mark.
    add(name + "_crlf", data.replace(b"\n", b"\r\n"))
    add(name + "_bom", b"\xef\xbb\xbf" + data)

add("tabs", "a\tb\n1,5\t\"x\ty\"\n".encode(), delimiter="\t")
add("semicolons", "a;b\n1,5;\"x;y\"\n".encode(), delimiter=";")
add("pipes", "a|b\n1,5|\"x|y\"\n".encode(), delimiter="|")
add("apostrophes", "a,b\n'x,y','it''s'\n\"1\",2\n".encode(), quote="'")
add("without_quotes", "a,b\n\"1,2\"\nit's,\"\n".encode(), quote=None)

chance = random.Random(20261129)
pieces = ["", "a", "b ", " c", "é", "日本", "\U0001F600", '"', '""', ",", ";", "\t", "\n", "\r\n", "\r", "'", "\\", "NULL", "-1", "1e5", "x" * 90]
for number in range(120):
    delimiter = chance.choice([",", ";", "\t", "|"])
    ending = chance.choice(["\n", "\r\n"])
    columns = chance.randint(1, 6)
    out = io.StringIO(newline="")
    # All cells in quotes, or those that need it: then without the line breaks that only some writers put into quotes.
    every = chance.random() < 0.5
    writer = csv.writer(out, delimiter=delimiter, lineterminator=ending, quoting=csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL)
    writer.writerow([f"c{i}" for i in range(columns)])
    for _ in range(chance.randint(0, 60)):
        row = ["".join(chance.choice(pieces) for _ in range(chance.randint(0, 4))) for _ in range(columns)]
        if not every:
            row = [cell.replace("\r", "") for cell in row]
        writer.writerow(row)
    mark = b"\xef\xbb\xbf" if chance.random() < 0.2 else b""
    add(f"random_{number}", mark + out.getvalue().encode(), delimiter=delimiter)

print(json.dumps(kinds))
"#;

#[derive(Deserialize)]
struct Kind {
    name: String,
    delimiter: char,
    quote: Option<char>,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn python() -> PathBuf {
    let of_the_cache = || {
        let home = std::env::var_os("HOME").expect("HOME is set");
        Path::new(&home).join(".cache/indexbuild/python/bin/python")
    };
    let python = std::env::var_os("INDEXBUILD_PYTHON").map_or_else(of_the_cache, PathBuf::from);
    assert!(python.exists(), "{} is missing: run `make python` (or the tests through `make test`)", python.display());
    python
}

#[test]
fn a_csv_file_holds_what_another_reader_finds_in_it_however_it_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(python()).args(["-c", SCRIPT]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kinds: Vec<Kind> = serde_json::from_slice(&output.stdout).unwrap();
    assert!(kinds.len() > 180, "{} kinds", kinds.len());
    for Kind { name, delimiter, quote, header, rows } in kinds {
        let path = folder.path().join(format!("{name}.csv"));
        let options = CsvOptions {
            delimiter: u8::try_from(delimiter).unwrap(),
            quote: quote.map(|quote| u8::try_from(quote).unwrap()),
            nulls: vec![],
            ..CsvOptions::default()
        };
        let table = table(&csv_spec(&path, options)).unwrap();
        let columns = all_columns(&table);
        assert_eq!(columns, header, "{name}");
        for target in [1, 7, 64, u64::MAX] {
            let read = cells(read_sized(&table, &columns, target, &ReadOptions::default()).unwrap());
            let first = read.iter().zip(&rows).position(|(read, other)| read != other);
            assert!(
                read == rows,
                "{name}, splits of {target}: {} rows of {}, the first that differs {first:?}",
                read.len(),
                rows.len()
            );
        }
    }
}
