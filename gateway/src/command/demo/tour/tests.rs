use super::*;

#[test]
fn a_word_for_the_shell_is_quoted_only_when_it_must_be() {
    assert_eq!(quoted("https://a.example.com:8443/x"), "https://a.example.com:8443/x");
    assert_eq!(quoted("/tmp/my state"), "'/tmp/my state'");
    assert_eq!(quoted("it's"), r"'it'\''s'");
    assert_eq!(quoted("/a?b=c&d"), "'/a?b=c&d'");
}

#[test]
fn every_pattern_has_a_host_to_try() {
    for (pattern, host) in
        [("*", "localhost"), ("*.example.com", "www.example.com"), ("a.example.com", "a.example.com")]
    {
        let pattern: HostPattern = pattern.parse().unwrap();
        assert_eq!(concrete(&pattern), host);
        assert!(pattern.covers(&host.parse().unwrap()));
    }
}
