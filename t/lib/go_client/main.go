// Makes calls of nginx-plus-go-client as it is told, and shows what comes of them.
//
// Each line of the input is a call: ["GetHTTPServers", "up"]. "NewNginxClient" and the like make
// the client of all calls that follow. A line of the output answers each:
// {"error": null, "results": [...]}. Results are shown with all fields by their names in Go; what is
// nil is null. An argument that only the program can have, like an HTTP client, is left out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"reflect"

	"github.com/nginxinc/nginx-plus-go-client/client"
)

var constructors = map[string]interface{}{
	"NewNginxClient":            client.NewNginxClient,
	"NewNginxClientWithVersion": client.NewNginxClientWithVersion,
}

var (
	contextType = reflect.TypeOf((*context.Context)(nil)).Elem()
	errorType   = reflect.TypeOf((*error)(nil)).Elem()
	httpClient  = reflect.TypeOf(http.DefaultClient)
)

type answer struct {
	Error   *string       `json:"error"`
	Results []interface{} `json:"results"`
}

func main() {
	var nginx reflect.Value
	calls := bufio.NewScanner(os.Stdin)
	calls.Buffer(nil, 1<<20)
	output := json.NewEncoder(os.Stdout)
	output.SetEscapeHTML(false)
	for calls.Scan() {
		var words []json.RawMessage
		var name string
		must(json.Unmarshal(calls.Bytes(), &words))
		must(json.Unmarshal(words[0], &name))

		var results []reflect.Value
		if constructor, ok := constructors[name]; ok {
			results = call(reflect.ValueOf(constructor), words[1:])
			nginx = results[0]
			results = results[1:]
		} else {
			results = call(nginx.MethodByName(name), words[1:])
		}
		must(output.Encode(shown(results)))
	}
	must(calls.Err())
}

func call(function reflect.Value, words []json.RawMessage) []reflect.Value {
	kind := function.Type()
	var arguments []reflect.Value
	for i := 0; i < kind.NumIn(); i++ {
		argument := reflect.New(kind.In(i))
		switch {
		case kind.IsVariadic() && i == kind.NumIn()-1:
			continue
		case kind.In(i) == contextType:
			argument.Elem().Set(reflect.ValueOf(context.Background()))
		case kind.In(i) == httpClient:
			argument.Elem().Set(reflect.ValueOf(http.DefaultClient))
		default:
			must(json.Unmarshal(words[0], argument.Interface()))
			words = words[1:]
		}
		arguments = append(arguments, argument.Elem())
	}
	if len(words) > 0 {
		must(fmt.Errorf("too many arguments: %s", words))
	}
	return function.Call(arguments)
}

func shown(results []reflect.Value) answer {
	said := answer{Results: []interface{}{}}
	for _, result := range results {
		if result.Type() != errorType {
			said.Results = append(said.Results, plain(result))
		} else if !result.IsNil() {
			text := result.Interface().(error).Error()
			said.Error = &text
		}
	}
	return said
}

// encoding/json would leave out what is empty, and go by the names of the API.
func plain(value reflect.Value) interface{} {
	switch value.Kind() {
	case reflect.Ptr:
		if value.IsNil() {
			return nil
		}
		return plain(value.Elem())
	case reflect.Struct:
		members := map[string]interface{}{}
		for i := 0; i < value.NumField(); i++ {
			members[value.Type().Field(i).Name] = plain(value.Field(i))
		}
		return members
	case reflect.Map:
		if value.IsNil() {
			return nil
		}
		members := map[string]interface{}{}
		for _, key := range value.MapKeys() {
			members[key.String()] = plain(value.MapIndex(key))
		}
		return members
	case reflect.Slice:
		if value.IsNil() {
			return nil
		}
		elements := []interface{}{}
		for i := 0; i < value.Len(); i++ {
			elements = append(elements, plain(value.Index(i)))
		}
		return elements
	default:
		return value.Interface()
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
