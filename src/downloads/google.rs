//! The page of Google Drive between a link and a large file.
//!
//! Google Drive answers with small files at once. For large files the answer is a page with a warning that they were
//! not scanned for viruses; its form, or a link and a cookie in older versions, leads to the file.

use std::str::FromStr;

use reqwest::Url;

/// An error of the URL parser.
pub(super) type UrlError = <Url as FromStr>::Err;

/// The page does not lead to the file.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The page has neither a form nor a link to the file; its title.
    #[error("{0}")]
    Title(String),
    /// The page has neither a form, a link nor a title.
    #[error("it has no link to the file")]
    NoLink,
    /// The form has no address.
    #[error("its form leads nowhere")]
    NoAction,
    /// The address of the form is invalid.
    #[error("its form leads to {action}: {source}")]
    Action {
        /// The address.
        action: String,
        /// The problem.
        source: UrlError,
    },
    /// The page leads to another host.
    #[error("it leads to {0}, which is not Google's")]
    OtherHost(Url),
    /// The next answer is a page, too.
    #[error("the next answer is a page, too")]
    SecondPage,
}

/// The address to which the page leads, with all fields of its form. Errs if the page has no address, or not one of Google.
pub(super) fn next_address(page: &str, asked: &Url, id: &str, cookie: Option<&str>) -> Result<Url, PageError> {
    if let Some(form) = element(page, "form", |tag| tag.contains("download")) {
        let action = attribute(form, "action").ok_or(PageError::NoAction)?;
        let mut url = asked.join(&action).map_err(|source| PageError::Action { action, source })?;
        allow(&url, asked)?;
        let body = page.find(form).map_or("", |start| &page[start..]);
        let body = &body[..body.find("</form>").unwrap_or(body.len())];
        let inputs = body.match_indices("<input").filter_map(|(start, _)| {
            let tag = &body[start..start + body[start..].find('>')?];
            (attribute(tag, "type").as_deref() == Some("hidden"))
                .then(|| Some((attribute(tag, "name")?, attribute(tag, "value").unwrap_or_default())))?
        });
        url.query_pairs_mut().clear().extend_pairs(inputs);
        if !url.query_pairs().any(|(name, _)| name == "id") {
            url.query_pairs_mut().append_pair("id", id);
        }
        return Ok(url);
    }
    let token = cookie.map(str::to_owned).or_else(|| {
        let rest = &page[page.find("confirm=")? + "confirm=".len()..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
        (end > 0).then(|| rest[..end].to_owned())
    });
    match token {
        Some(token) => {
            let mut url = asked.clone();
            url.query_pairs_mut().clear().extend_pairs([("export", "download"), ("confirm", &*token), ("id", id)]);
            Ok(url)
        }
        None => Err(title(page).map_or(PageError::NoLink, |title| PageError::Title(title.into()))),
    }
}

/// Errs unless the address is Google's, or of the same origin as the page.
fn allow(url: &Url, asked: &Url) -> Result<(), PageError> {
    let host = url.host_str().unwrap_or_default();
    let is_google = url.scheme() == "https"
        && ["google.com", "googleusercontent.com"]
            .iter()
            .any(|d| host.strip_suffix(d).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    match is_google || url.origin() == asked.origin() {
        true => Ok(()),
        false => Err(PageError::OtherHost(url.clone())),
    }
}

/// The opening tag of the first element of this kind for which `wanted` is true.
fn element<'a>(page: &'a str, kind: &str, wanted: impl Fn(&str) -> bool) -> Option<&'a str> {
    let open = format!("<{kind}");
    page.match_indices(&open).find_map(|(start, _)| {
        let tag = &page[start..start + page[start..].find('>')?];
        wanted(tag).then_some(tag)
    })
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    let value = &tag[start..start + tag[start..].find('"')?];
    Some(value.replace("&quot;", "\"").replace("&#39;", "'").replace("&amp;", "&"))
}

fn title(page: &str) -> Option<&str> {
    let start = page.find("<title>")? + "<title>".len();
    Some(page[start..start + page[start..].find("</title>")?].trim()).filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Url {
        Url::parse("https://docs.google.com/uc?export=download&id=ID").unwrap()
    }

    #[test]
    fn the_present_form_is_followed() {
        let page = r#"<html><title>Google Drive - Virus scan warning</title><form id="download-form"
            action="https://drive.usercontent.google.com/download" method="get"><input type="submit" value="Download anyway"/>
            <input type="hidden" name="id" value="ID"><input type="hidden" name="confirm" value="t&amp;1">
            <input value="u-1" name="uuid" type="hidden"></form><input type="hidden" name="other" value="x">"#;
        let url = next_address(page, &asked(), "ID", None).unwrap();
        assert_eq!(url.as_str(), "https://drive.usercontent.google.com/download?id=ID&confirm=t%261&uuid=u-1");
    }

    #[test]
    fn the_old_link_and_cookie_are_followed() {
        let page = r#"<a id="uc-download-link" href="/uc?export=download&amp;confirm=AbC_1&amp;id=ID">"#;
        let expected = "https://docs.google.com/uc?export=download&confirm=AbC_1&id=ID";
        assert_eq!(next_address(page, &asked(), "ID", None).unwrap().as_str(), expected);
        assert_eq!(next_address("<p>", &asked(), "ID", Some("AbC_1")).unwrap().as_str(), expected);
    }

    #[test]
    fn other_pages_are_quoted_and_other_hosts_refused() {
        let full = "<title>Google Drive - Quota exceeded</title>";
        let error = |page: &str| next_address(page, &asked(), "ID", None).unwrap_err().to_string();
        assert_eq!(error(full), "Google Drive - Quota exceeded");
        for action in
            ["http://169.254.169.254/", "https://notgoogle.com/download", "https://google.com.evil.org/download"]
        {
            let page = format!(r#"<form id="download-form" action="{action}">"#);
            assert!(error(&page).contains("not Google's"), "{action}");
        }
        for broken in ["<form download", "<form id=\"download\">", "<input"] {
            assert!(next_address(broken, &asked(), "ID", None).is_err(), "{broken}");
        }
        let cut_off = "<form action=\"download\"><input type=\"hidden\"";
        assert_eq!(next_address(cut_off, &asked(), "ID", None).unwrap().path(), "/download");
    }
}
