//! Thrift's compact protocol as trees, so that a file that a library wrote can be made to be what another one writes.

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    /// The kind (3 to 6: of 8, 16, 32, 64 bits), and the number.
    Int(u8, i64),
    Double([u8; 8]),
    Binary(Vec<u8>),
    List(u8, Vec<Value>),
    Struct(Vec<(i16, Value)>),
}

pub(crate) fn i32(value: i64) -> Value {
    Value::Int(5, value)
}

pub(crate) fn i64(value: i64) -> Value {
    Value::Int(6, value)
}

pub(crate) fn text(value: &str) -> Value {
    Value::Binary(value.as_bytes().to_vec())
}

impl Value {
    fn fields(&mut self) -> &mut Vec<(i16, Value)> {
        match self {
            Value::Struct(fields) => fields,
            other => panic!("{other:?} is no struct"),
        }
    }

    pub(crate) fn get(&mut self, number: i16) -> &mut Value {
        let found = self.fields().iter_mut().find(|(found, _)| *found == number);
        &mut found.unwrap_or_else(|| panic!("there is no field {number}")).1
    }

    pub(crate) fn set(&mut self, number: i16, value: Value) {
        self.remove(number);
        self.fields().push((number, value));
        self.fields().sort_by_key(|(number, _)| *number);
    }

    pub(crate) fn remove(&mut self, number: i16) {
        self.fields().retain(|(found, _)| *found != number);
    }

    pub(crate) fn elements(&mut self) -> &mut Vec<Value> {
        match self {
            Value::List(_, elements) => elements,
            other => panic!("{other:?} is no list"),
        }
    }

    pub(crate) fn int(&self) -> i64 {
        match self {
            Value::Int(_, value) => *value,
            other => panic!("{other:?} is no number"),
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Value::Bool(true) => 1,
            Value::Bool(false) => 2,
            Value::Int(kind, _) => *kind,
            Value::Double(_) => 7,
            Value::Binary(_) => 8,
            Value::List(_, _) => 9,
            Value::Struct(_) => 12,
        }
    }
}

/// A struct and how many bytes it takes.
pub(crate) fn parse(bytes: &[u8]) -> (Value, usize) {
    let mut at = 0;
    let value = value(12, bytes, &mut at);
    (value, at)
}

fn varint(bytes: &[u8], at: &mut usize) -> u64 {
    let (mut value, mut place) = (0, 0);
    loop {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 0x7f) << place;
        place += 7;
        if byte < 0x80 {
            return value;
        }
    }
}

fn zigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn value(kind: u8, bytes: &[u8], at: &mut usize) -> Value {
    match kind {
        1 => Value::Bool(true),
        2 => Value::Bool(false),
        3 => {
            *at += 1;
            Value::Int(3, i64::from(bytes[*at - 1].cast_signed()))
        }
        4..=6 => Value::Int(kind, zigzag(varint(bytes, at))),
        7 => {
            *at += 8;
            Value::Double(bytes[*at - 8..*at].try_into().unwrap())
        }
        8 => {
            let length = usize::try_from(varint(bytes, at)).unwrap();
            *at += length;
            Value::Binary(bytes[*at - length..*at].to_vec())
        }
        9 => {
            let first = bytes[*at];
            *at += 1;
            let count = if first >> 4 == 15 { varint(bytes, at) } else { u64::from(first >> 4) };
            Value::List(first & 15, (0..count).map(|_| value(first & 15, bytes, at)).collect())
        }
        12 => {
            let (mut fields, mut number) = (Vec::new(), 0_i16);
            loop {
                let first = bytes[*at];
                *at += 1;
                if first == 0 {
                    return Value::Struct(fields);
                }
                number = match first >> 4 {
                    0 => i16::try_from(zigzag(varint(bytes, at))).unwrap(),
                    step => number + i16::from(step),
                };
                fields.push((number, value(first & 15, bytes, at)));
            }
        }
        other => panic!("kind {other} is not used in these files"),
    }
}

pub(crate) fn bytes_of(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(value, &mut bytes);
    bytes
}

fn write_varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn write_zigzag(value: i64, bytes: &mut Vec<u8>) {
    write_varint(((value << 1) ^ (value >> 63)).cast_unsigned(), bytes);
}

fn write(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Bool(_) => {}
        Value::Int(3, value) => bytes.push(*value as u8),
        Value::Int(_, value) => write_zigzag(*value, bytes),
        Value::Double(value) => bytes.extend(value),
        Value::Binary(value) => {
            write_varint(value.len() as u64, bytes);
            bytes.extend(value);
        }
        Value::List(kind, elements) => {
            if elements.len() < 15 {
                bytes.push((elements.len() as u8) << 4 | kind);
            } else {
                bytes.push(0xf0 | kind);
                write_varint(elements.len() as u64, bytes);
            }
            elements.iter().for_each(|element| write(element, bytes));
        }
        Value::Struct(fields) => {
            let mut before = 0;
            for (number, value) in fields {
                let step = number - before;
                if (1..16).contains(&step) {
                    bytes.push((step as u8) << 4 | value.kind());
                } else {
                    bytes.push(value.kind());
                    write_zigzag(i64::from(*number), bytes);
                }
                write(value, bytes);
                before = *number;
            }
            bytes.push(0);
        }
    }
}
