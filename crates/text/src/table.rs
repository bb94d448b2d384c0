use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Rows of cells as aligned lines, with so many blanks before and after each cell; `right` says of a column whether its
/// cells align to the right. Long cells are not cut: a pipe takes them all.
#[must_use]
pub fn aligned(
    rows: impl IntoIterator<Item = Vec<String>>,
    blanks: (u16, u16),
    right: impl Fn(usize) -> bool,
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).add_rows(rows);
    for (number, column) in table.column_iter_mut().enumerate() {
        column.set_padding(blanks);
        column.set_cell_alignment(if right(number) { CellAlignment::Right } else { CellAlignment::Left });
    }
    table.trim_fmt() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_align_as_their_column_says_and_no_line_ends_with_blanks() {
        let rows = [["pod", "peak", ""], ["orders-0-é1", "7", "x"], ["o", "", ""]];
        let rows = || rows.map(|row| row.map(str::to_owned).to_vec());
        let text = "  pod          peak\n  orders-0-é1     7  x\n  o\n";
        assert_eq!(aligned(rows(), (2, 0), |column| column > 0), text);
        let text = "pod          peak\norders-0-é1  7     x\no\n";
        assert_eq!(aligned(rows(), (0, 2), |_| false), text);
    }
}
