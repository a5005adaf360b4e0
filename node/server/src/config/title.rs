//! `proc-title-template`: what the process calls itself.

use super::Config;

/// Puts values for the variables of a template: words in braces. Two opening braces stand for one. Nothing if the template ends
/// within a variable, or there is no such variable. Spaces at both ends are left out.
pub(super) fn expand(template: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        if let Some(quoted) = behind.strip_prefix('{') {
            out.push('{');
            rest = quoted;
            continue;
        }
        let (variable, behind) = behind.split_once('}')?;
        out.push_str(&value(variable)?);
        rest = behind;
    }
    out.push_str(rest);
    Some(out.trim_matches(' ').to_string())
}

impl Config {
    /// The title of the process that was started as `program`.
    pub fn title(&self, program: &str) -> String {
        let ports = [self.get("port"), self.get("tls-port")];
        let value = |variable: &str| {
            Some(match variable {
                "title" => program.to_string(),
                "listen-addr" => match ports.iter().find(|p| **p != "0") {
                    Some(port) => {
                        let first = self.get("bind").split(' ').next().unwrap_or_default();
                        let host = if first.is_empty() { "*" } else { first };
                        format!("{host}:{port}")
                    }
                    None => format!("unixsocket:{}", self.get("unixsocket")),
                },
                "server-mode" if self.yes("cluster-enabled") => "[cluster]".to_string(),
                "server-mode" => String::new(),
                "port" | "tls-port" | "unixsocket" => self.get(variable).to_string(),
                "config-file" => self
                    .file()
                    .map_or("-".into(), |f| f.to_string_lossy().into_owned()),
                _ => return None,
            })
        };
        // It was looked at when it was set.
        expand(self.get("proc-title-template"), value).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(args: &[&str]) -> String {
        Config::from_args(args).expect("valid").title("./server")
    }

    #[test]
    fn a_title_says_where_the_server_listens() {
        assert_eq!(title(&[]), "./server *:6379");
        let bind = ["--bind", "127.0.0.1 -::1", "--port"];
        assert_eq!(title(&[&bind[..], &["1"]].concat()), "./server 127.0.0.1:1");
        let tls = [&bind[..], &["0", "--tls-port", "2"]].concat();
        assert_eq!(title(&tls), "./server 127.0.0.1:2");
        let unix = [&bind[..], &["0", "--unixsocket", "/s"]].concat();
        assert_eq!(title(&unix), "./server unixsocket:/s");
        assert_eq!(title(&["--bind", ""]), "./server *:6379");
        assert_eq!(
            title(&["--cluster-enabled", "yes"]),
            "./server *:6379 [cluster]"
        );
    }

    #[test]
    fn a_template_has_variables() {
        let of = |template| title(&["--proc-title-template", template, "--tls-port", "7"]);
        assert_eq!(of(" a {{{port}} {tls-port}:{unixsocket}: "), "a {6379} 7::");
        assert_eq!(of("{config-file}"), "-");
        assert_eq!(of("plain"), "plain");
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("a path");
        let args = [path, "--proc-title-template", "{config-file}|{title}"];
        assert_eq!(title(&args), format!("{path}|./server"));
    }
}
