use http::Uri;

#[derive(Debug, thiserror::Error)]
#[error("`{endpoint}` is no endpoint of a store: {why}; write it as https://host or http://host:port")]
pub struct BadEndpoint {
    endpoint: String,
    why: String,
}

/// Whether a store's endpoint is an address at all. object_store signs a request before it looks at its address, and
/// panics where that is none: asked here first, it is an error that names it.
pub fn check_endpoint(endpoint: &str) -> Result<(), BadEndpoint> {
    let bad = |why: String| BadEndpoint { endpoint: endpoint.to_owned(), why };
    let address: Uri = endpoint.parse().map_err(|error: http::uri::InvalidUri| bad(error.to_string()))?;
    match (address.scheme_str(), address.host()) {
        (Some("http" | "https"), Some(host)) if !host.is_empty() => {
            let bare = address.authority().is_some_and(|authority| authority.as_str().ends_with(host));
            if bare || address.port_u16().is_some() { Ok(()) } else { Err(bad("its port is no number".to_owned())) }
        }
        (Some("http" | "https"), _) => Err(bad("it names no host".to_owned())),
        (Some(scheme), _) => Err(bad(format!("{scheme} is not spoken by object stores"))),
        (None, _) => Err(bad("it has no scheme".to_owned())),
    }
}

/// Whether an endpoint is reached by plain HTTP.
pub(crate) fn is_plain(endpoint: &str) -> bool {
    endpoint.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://"))
}

#[cfg(test)]
mod tests {
    use super::check_endpoint;

    #[test]
    fn an_address_passes_and_whatever_is_none_is_named() {
        for good in
            ["http://127.0.0.1:9000", "https://s3.eu-west-1.amazonaws.com", "http://[::1]:9000/", "https://minio/s3"]
        {
            check_endpoint(good).unwrap_or_else(|error| panic!("{error}"));
        }
        for (bad, why) in [
            ("no address at all", "invalid uri"),
            ("http://two words:9000", "invalid uri"),
            ("http://", ""),
            ("http://:9000", "names no host"),
            ("http://host:port", "port"),
            ("http://host:99999", "port"),
            ("ftp://store:9000", "ftp is not spoken"),
            ("store:9000", "no scheme"),
            ("store", "no scheme"),
            ("", ""),
        ] {
            let Err(error) = check_endpoint(bad) else { panic!("{bad} passes") };
            let said = error.to_string();
            assert!(said.starts_with(&format!("`{bad}` is no endpoint")) && said.contains(why), "{said}");
        }
    }
}
