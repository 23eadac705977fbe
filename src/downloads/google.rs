//! The page of Google Drive between a link and a large file.
//!
//! Google Drive answers with small files at once. For large files the answer is a page with a warning that they were
//! not scanned for viruses; its form, or a link and a cookie in older versions, leads to the file.

use reqwest::Url;

/// The address that the page leads to, with all fields of its form. Errs with the title of the page.
pub(super) fn next_address(page: &str, asked: &Url, id: &str, cookie: Option<&str>) -> Result<Url, String> {
    if let Some(form) = element(page, "form", |tag| tag.contains("download")) {
        let action = attribute(form, "action").ok_or("its form leads nowhere")?;
        let mut url = asked.join(&action).map_err(|e| format!("its form leads to {action}: {e}"))?;
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
        None => Err(title(page).unwrap_or("no way on to the file").to_owned()),
    }
}

/// Errs unless the address is Google's, or of the same origin as the page.
fn allow(url: &Url, asked: &Url) -> Result<(), String> {
    let host = url.host_str().unwrap_or_default();
    let is_google = url.scheme() == "https"
        && ["google.com", "googleusercontent.com"]
            .iter()
            .any(|d| host.strip_suffix(d).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')));
    match is_google || url.origin() == asked.origin() {
        true => Ok(()),
        false => Err(format!("it leads to {url}, which is not Google's")),
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
    fn the_form_of_today_is_followed() {
        let page = r#"<html><title>Google Drive - Virus scan warning</title><form id="download-form"
            action="https://drive.usercontent.google.com/download" method="get"><input type="submit" value="Download anyway"/>
            <input type="hidden" name="id" value="ID"><input type="hidden" name="confirm" value="t&amp;1">
            <input value="u-1" name="uuid" type="hidden"></form><input type="hidden" name="other" value="x">"#;
        let url = next_address(page, &asked(), "ID", None).unwrap();
        assert_eq!(url.as_str(), "https://drive.usercontent.google.com/download?id=ID&confirm=t%261&uuid=u-1");
    }

    #[test]
    fn the_link_and_the_cookie_of_old_are_followed() {
        let page = r#"<a id="uc-download-link" href="/uc?export=download&amp;confirm=AbC_1&amp;id=ID">"#;
        let expected = "https://docs.google.com/uc?export=download&confirm=AbC_1&id=ID";
        assert_eq!(next_address(page, &asked(), "ID", None).unwrap().as_str(), expected);
        assert_eq!(next_address("<p>", &asked(), "ID", Some("AbC_1")).unwrap().as_str(), expected);
    }

    #[test]
    fn other_pages_are_quoted_and_other_places_refused() {
        let full = "<title>Google Drive - Quota exceeded</title>";
        assert_eq!(next_address(full, &asked(), "ID", None).unwrap_err(), "Google Drive - Quota exceeded");
        for action in
            ["http://169.254.169.254/", "https://notgoogle.com/download", "https://google.com.evil.org/download"]
        {
            let page = format!(r#"<form id="download-form" action="{action}">"#);
            assert!(next_address(&page, &asked(), "ID", None).unwrap_err().contains("not Google's"), "{action}");
        }
        for broken in
            ["<form download", "<form id=\"download\">", "<input", "<form action=\"download\"><input type=\"hidden\""]
        {
            let _ = next_address(broken, &asked(), "ID", None);
        }
    }
}
