use std::path::{Path, PathBuf};

use super::verify::{Verify, compare};
use super::{Options, Page, parse};

fn page_with(text: &str, tabs: &[String]) -> Page {
    let boilerplate = |name: &str| {
        let text = "Prose.\n\n{{< text bash >}}\n$ kubectl get boiler\n{{< /text >}}\n";
        (name == "before").then(|| (PathBuf::from("before.md"), text.to_owned()))
    };
    let values = [("istio_version", "1.31".to_owned())];
    parse(Path::new("page.md"), text, &Options { tabs, values: &values, boilerplate: &boilerplate })
}

fn page(text: &str) -> Page {
    page_with(text, &[])
}

fn commands(page: &Page) -> Vec<&str> {
    page.steps.iter().map(|s| s.command.as_str()).collect()
}

fn problems(text: &str) -> Vec<String> {
    page(text).problems.iter().map(ToString::to_string).collect()
}

#[test]
fn istio_io_blocks_give_commands_and_outputs() {
    let text = "---\ntitle: Accessing External Services\ntest: yes\n---\n\n## Envoy passthrough\n\n1.  Do:\n\n    {{< text bash >}}\n    $ kubectl exec \"$P\" -c curl -- curl -sSI https://a.com | grep  \"HTTP/\"; kubectl exec \"$P\" -- \\\n      curl b\n    HTTP/2 200\n\n    HTTP/2 301\n    {{< /text >}}\n\n{{< text yaml >}}\na: b\n{{< /text >}}\n\n{{< text syntax=bash snip_id=named outputis=json >}}\n$ kubectl apply -f @samples/curl/curl.yaml@ --version {{< istio_version >}}\n$ kubectl apply -f - <<EOF\nkind: X\n\nEOF\n{{< /text >}}\n";
    let page = page(text);
    assert_eq!(page.problems, []);
    assert_eq!(page.title, "Accessing External Services");
    assert_eq!(
        commands(&page),
        [
            "kubectl exec \"$P\" -c curl -- curl -sSI https://a.com | grep  \"HTTP/\"; kubectl exec \"$P\" -- \\\n  curl b",
            "kubectl apply -f samples/curl/curl.yaml --version 1.31",
            "kubectl apply -f - <<EOF\nkind: X\n\nEOF",
        ]
    );
    let places: Vec<_> = page.steps.iter().map(|s| (s.name.as_str(), s.at.line)).collect();
    assert_eq!(places, [("envoy_passthrough_1", 11), ("named", 23), ("named", 24)]);
    let expected = page.steps[0].expected.as_ref().expect("an output");
    assert_eq!((expected.text.as_str(), expected.at.line), ("HTTP/2 200\n\nHTTP/2 301", 13));
    assert_eq!(page.steps[1].expected, None);
}

#[test]
fn fenced_blocks_of_any_blog_are_read() {
    let text = "# A blog\n\n```bash\n# a remark\nkubectl get pod \\\n  -o name\n\ncat <<EOF > x\na\nEOF\n```\n\n```output\npod/x\n```\n\n~~~console\n$ kubectl get svc\nNAME\n$ ls\n~~~\n\n```\n$ echo plain\nplain\n```\n\n```yaml\n$ no\n```\n\n```\nno prompt\n```\n";
    let page = page(text);
    assert_eq!(page.problems, []);
    assert_eq!(
        commands(&page),
        ["kubectl get pod \\\n  -o name", "cat <<EOF > x\na\nEOF", "kubectl get svc", "ls", "echo plain"]
    );
    let outputs: Vec<_> = page.steps.iter().map(|s| s.expected.as_ref().map(|e| e.text.as_str())).collect();
    assert_eq!(outputs, [None, Some("pod/x"), Some("NAME"), None, Some("plain")]);
    assert_eq!(page.title, "A blog");
}

#[test]
fn translations_are_read_as_well() {
    let japanese = "---\ntitle: 外部サービスへのアクセス\n---\n\n## 外部の HTTP サービス\n\n1.  リクエストを送信します。\n\n    {{< text bash >}}\n    $ kubectl exec \"$SOURCE_POD\" -c curl -- curl -sS http://httpbin.org/headers # 確認\n    {\n      \"Host\": \"httpbin.org\"\n    }\n    {{< /text >}}\n";
    let japanese = page(japanese);
    assert_eq!((japanese.problems.len(), japanese.steps.len()), (0, 1));
    assert_eq!(japanese.title, "外部サービスへのアクセス");
    assert_eq!(japanese.steps[0].name, "外部の_http_サービス_1");
    let chinese =
        page("---\ntitle: \"访问外部服务\"\n---\n## 清理\n```bash\nkubectl delete serviceentry cnn  # 删除\n```\n");
    assert_eq!(commands(&chinese), ["kubectl delete serviceentry cnn  # 删除"]);
    assert_eq!(chinese.steps[0].name, "清理_1");
}

#[test]
fn one_tab_of_a_set_is_read() {
    let text = "## S\n{{< tabset category-name=\"config-api\" >}}\n\n{{< tab name=\"Istio APIs\" category-value=\"istio-apis\" >}}\n```bash\nfirst\n```\n{{< /tab >}}\n\n{{< tab name=\"Gateway API\" category-value=\"gateway-api\" >}}\n```bash\nsecond\n```\n{{< /tab >}}\n\n{{< /tabset >}}\n```bash\nthird\n```\n";
    assert_eq!(commands(&page(text)), ["first", "third"]);
    let page = page_with(text, &["gateway-api".to_owned()]);
    assert_eq!(commands(&page), ["second", "third"]);
    assert_eq!(page.skipped.len(), 1);
    assert!(page.skipped[0].to_string().starts_with("page.md:6: in tab \"istio-apis\""), "{}", page.skipped[0]);
    assert_eq!(commands(&page_with(text, &["other-set".to_owned()])), ["first", "third"]);
}

#[test]
fn boilerplates_are_part_of_the_page() {
    let page = page("## Before\n{{< boilerplate before >}}\n{{< boilerplate nope >}}\n```bash\nown\n```\n");
    assert_eq!(commands(&page), ["kubectl get boiler", "own"]);
    assert_eq!(page.steps[0].at.to_string(), "before.md:4");
    assert_eq!((page.steps[1].name.as_str(), page.skipped.len()), ("before_1", 1));
}

#[test]
fn comments_set_what_readers_do_not_see() {
    let text = "<!-- tutorial:\nmesh: allow-any\n-->\n<!-- ```bash\nhidden\n``` -->\n<!-- tutorial: {verify: contains, path: []} -->\n```console\n$ a\nx\n```\n```console\n$ b\n```\n<!-- tutorial: {skip: no reason} -->\n```bash\nc\n```\n";
    let page = page(text);
    assert_eq!(page.problems, []);
    assert_eq!(commands(&page), ["a", "b"]);
    assert_eq!(page.settings.mesh.as_deref(), Some("allow-any"));
    assert_eq!(page.steps[0].expected.as_ref().map(|e| e.verify), Some(Verify::Contains));
    assert_eq!((page.steps[0].promised.clone(), page.steps[1].promised.clone()), (Some(vec![]), None));
    assert_eq!(page.skipped[0].to_string(), "page.md:17: no reason");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    assert_eq!(problems("a\n\n```bash\nx\n"), ["page.md:3: the block is not closed: no line ``` follows"]);
    assert_eq!(problems("{{< text bash >}}\n$ x\n"), ["page.md:1: the block is not closed: no {{< /text >}} follows"]);
    assert_eq!(
        problems("x\n{{< text bask >}}\n$ x\n{{< /text >}}\n"),
        ["page.md:2: unknown kind of block `bask`; did you mean `bash`?"]
    );
    assert_eq!(
        problems("```bash\nkubectl apply -f - <<EOF\na\n```\n"),
        ["page.md:2: the command does not end in its block: a heredoc is not closed: no line `EOF`"]
    );
    assert_eq!(problems("---\ntitle: x\n"), ["page.md:1: the front matter is not closed: no second line --- follows"]);
    assert_eq!(problems("<!-- x\n```bash\nx\n```\n"), ["page.md:1: the comment is not closed: no --> follows"]);
    assert!(problems("# Nothing\n")[0].starts_with("page.md:1: the page has no commands"));
    assert_eq!(
        problems("{{< text bash >}}\n$ x {{< istio_versoin >}}\n{{< /text >}}\n"),
        ["page.md:2: unknown shortcode `istio_versoin` in a command; known: istio_version"]
    );
}

fn holds(verify: Verify, expected: &str, seen: &str) -> bool {
    compare(verify, expected, seen, 0).is_none()
}

#[test]
fn each_kind_of_comparison_means_what_istio_io_means() {
    assert!(holds(Verify::Same, "a\nb", "a  \r\nb\n"));
    assert!(!holds(Verify::Same, "a", "a\nb") && !holds(Verify::Same, "a\nb", "a"));
    assert!(holds(Verify::Contains, "b", "abc") && !holds(Verify::Contains, "x", "abc"));
    assert!(holds(Verify::NotContains, "x", "abc") && !holds(Verify::NotContains, "b", "abc"));
    assert!(compare(Verify::NotContains, "x", "abc", 1).is_some());
    assert!(holds(Verify::Elided, "a\n...\nc\nd", "x\nc\nd\na") && !holds(Verify::Elided, "a\n...\nz", "a\nb"));
    assert!(
        holds(Verify::Regex, "^a.c$", "abc") && !holds(Verify::Regex, "^b", "abc") && !holds(Verify::Regex, "(", "(")
    );
    assert!(holds(Verify::FirstLine, "200", "200\nreal 5s") && !holds(Verify::FirstLine, "200", "504"));
    assert!(holds(Verify::Like, "pod-a 4s", "pod-b 5m") && !holds(Verify::Like, "a", "a\nb"));
    assert!(holds(Verify::Lines, "+ a\n- x\nother", "abc"));
    assert!(!holds(Verify::Lines, "+ z", "abc") && !holds(Verify::Lines, "- b", "abc"));
    assert!(compare(Verify::Failure, "", "", 1).is_none() && !holds(Verify::Failure, "", ""));
}

#[test]
fn a_reader_overlooks_what_differs_from_run_to_run_only() {
    let seen =
        "Warning: v1 Endpoints is deprecated\nHTTP/1.1 301 Moved Permanently\nlocation: https://cnn/x\nHTTP/2 200\n";
    assert!(holds(Verify::Reader, "HTTP/1.1 301 Moved Permanently\n...\nHTTP/2 200\n...", seen));
    assert!(!holds(Verify::Reader, "HTTP/1.1 200 OK\n...", seen));
    assert!(holds(
        Verify::Reader,
        "curl-776b7bcdcd-gkjt2 2/2 Running 0 4h",
        "curl-5b549b49b8-x9x2z   2/2   Running   0   3s"
    ));
    let mismatch = compare(Verify::Reader, "a\nHTTP/2 200", "a\nHTTP/2 502", 0).expect("they differ");
    assert_eq!((mismatch.line, mismatch.expected.as_str(), mismatch.seen.as_str()), (1, "HTTP/2 200", "HTTP/2 502"));
    assert!(!holds(Verify::Reader, "a", "a\nb") && !holds(Verify::Reader, "a\nb", "a"));
}
