//! The machine that a process runs on, by its own word: the kernel that runs it knows its own boot.

use std::path::Path;

/// Where the kernel tells its boot id. In a sandboxed runtime it is that of the sandbox's own kernel.
pub const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// What a record has room for.
const LONGEST: usize = 64;

/// The boot id of the kernel that this process runs on; empty where it cannot be told: then a reboot of the machine proves
/// nothing about this process.
pub fn boot_id(file: &Path) -> String {
    match std::fs::read_to_string(file) {
        Ok(text) if is_id(text.trim()) => text.trim().to_owned(),
        Ok(_) => {
            tracing::warn!(file = %file.display(), "the file holds no boot id; a reboot of the machine will prove nothing about this process");
            String::new()
        }
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the kernel's boot id cannot be read; a reboot of the machine will prove nothing about this process");
            String::new()
        }
    }
}

fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_boot_id_is_not_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("boot_id");
        let of = |text: &str| {
            std::fs::write(&file, text).unwrap();
            boot_id(&file)
        };
        assert_eq!(of("00000000-0000-4000-8000-000001000000\n"), "00000000-0000-4000-8000-000001000000");
        for text in ["", "\n", "two words", "two\nlines", &"a".repeat(65)] {
            assert_eq!(of(text), "", "{text:?}");
        }
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        assert_eq!(boot_id(&file), "");
        assert_eq!(boot_id(&folder.path().join("absent")), "");
    }

    #[test]
    fn this_kernel_tells_its_own() {
        assert_eq!(boot_id(Path::new(BOOT_ID_FILE)).len(), 36);
    }
}
