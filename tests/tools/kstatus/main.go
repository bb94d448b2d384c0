// Command kstatus judges objects as Flux and Helm do, by kstatus' own code: JSON on standard input, an object, a
// list of objects, or several after one another; a line for each on standard output, its status and the message.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

func main() {
	decoder := json.NewDecoder(os.Stdin)
	for {
		var text json.RawMessage
		if err := decoder.Decode(&text); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			fail(err)
		}
		// Not Go's own: a whole number must stay one.
		var content map[string]any
		if err := utiljson.Unmarshal(text, &content); err != nil {
			fail(err)
		}
		object := unstructured.Unstructured{Object: content}
		if !object.IsList() {
			judge(&object)
			continue
		}
		items, err := object.ToList()
		if err != nil {
			fail(err)
		}
		for n := range items.Items {
			judge(&items.Items[n])
		}
	}
}

func judge(object *unstructured.Unstructured) {
	result, err := status.Compute(object)
	if err != nil {
		fail(fmt.Errorf("%s %s/%s: %w", object.GetKind(), object.GetNamespace(), object.GetName(), err))
	}
	fmt.Printf("%s\t%s\n", result.Status, strings.ReplaceAll(result.Message, "\n", " "))
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
