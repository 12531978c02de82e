//! Custom resources through kubectl.

use crate::harness::Server;

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: foos.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: foos, kind: Foo, shortNames: [fo], categories: [all]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}, scale: {specReplicasPath: .spec.size, statusReplicasPath: .status.size}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: A foo for tests.
        properties:
          spec:
            type: object
            description: What it shall be.
            properties:
              size: {type: integer, description: How large it is., default: 3, minimum: 1}
              color: {type: string, enum: [red, blue]}
          status: {type: object, properties: {size: {type: integer}}}
"#;

const FOO: &str = "
apiVersion: example.com/v1
kind: Foo
metadata: {name: a}
spec: {color: red}
";

#[test]
fn definitions_and_their_objects_are_applied_shown_and_explained() {
    let mut server = Server::start();
    let apply = |server: &Server, text: &str| server.kubectl_with(&["apply", "-f", "-"], text);
    apply(&server, DEFINITION).says("customresourcedefinition.apiextensions.k8s.io/foos.example.com created");
    server.kubectl("wait --for=condition=Established crd/foos.example.com --timeout=10s").says("condition met");
    apply(&server, FOO).says("foo.example.com/a created");
    apply(&server, FOO).says("foo.example.com/a unchanged");
    apply(&server, &FOO.replace("red", "green")).fails("Unsupported value: \"green\"");
    apply(&server, &FOO.replace("color", "colour")).fails("unknown field \"spec.colour\"");
    let shown = server.kubectl("get fo");
    shown.says("NAME   SIZE   AGE");
    shown.says("a      3");
    server.kubectl("get all").says("foo.example.com/a");
    server.kubectl("explain foos").says("A foo for tests.");
    server.kubectl("explain foo.spec.size").says("How large it is.");
    server.kubectl("explain foo.spec --recursive").says("size");
    server.kubectl("scale foo/a --replicas=5").says("scaled");
    server.kubectl("get foo a -o jsonpath={.spec.size}").says("5");
    server.kubectl("label foo a l=m").says("labeled");
    server.kubectl("api-resources --api-group=example.com").says("foos");
    server.kill();
    server.run();
    server.kubectl("get foos.v1.example.com -l l=m").says("a      5");
    server.kubectl("delete crd foos.example.com").says("deleted");
    server.kubectl("get foos").fails("the server could not find the requested resource");
}
