//! Which indexes are built.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What names a row of the table.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RowIdSpec {
    /// The columns that together name a row; they must be unique and never NULL.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 128)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub columns: Vec<String>,
}

/// One index over the table.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IndexSpec {
    /// The index's name, unique in the build.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([-_A-Za-z0-9]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// The columns of the key, the most significant one first.
    #[schemars(length(min = 1, max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub columns: Vec<IndexColumn>,
    /// Whether two rows with the same key are an error. Absent: no. Keys with a NULL are never equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unique: Option<bool>,
    /// Columns that are stored beside the key, so that a lookup need not read the table.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 128)))]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub include: Vec<String>,
}

impl IndexSpec {
    /// Whether two rows with the same key are an error; absent means no.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        self.unique.unwrap_or(false)
    }
}

/// A column of an index's key.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct IndexColumn {
    /// The column's name; a leaf of a struct is written `address.city`.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// The order of the column's values. Absent: Asc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Where NULLs go. Absent: Last for Asc, First for Desc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nulls: Option<Nulls>,
}

impl IndexColumn {
    /// The order that holds: absent means ascending.
    #[must_use]
    pub fn resolved_order(&self) -> Order {
        self.order.unwrap_or(Order::Asc)
    }

    /// Where NULLs go: absent means last in ascending order and first in descending order, as in SQL.
    #[must_use]
    pub fn resolved_nulls(&self) -> Nulls {
        self.nulls.unwrap_or(match self.resolved_order() {
            Order::Asc => Nulls::Last,
            Order::Desc => Nulls::First,
        })
    }
}

/// The order of a column's values.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// The smallest first.
    Asc,
    /// The largest first.
    Desc,
}

/// Where NULLs go.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nulls {
    /// Before all values.
    First,
    /// After all values.
    Last,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_list_item_leaves_out_has_a_meaning() {
        let column = |order, nulls| IndexColumn { name: "a".into(), order, nulls };
        assert_eq!(column(None, None).resolved_order(), Order::Asc);
        assert_eq!(column(None, None).resolved_nulls(), Nulls::Last);
        assert_eq!(column(Some(Order::Desc), None).resolved_nulls(), Nulls::First);
        assert_eq!(column(Some(Order::Desc), Some(Nulls::Last)).resolved_nulls(), Nulls::Last);
        assert!(!IndexSpec::default().is_unique());
    }
}
