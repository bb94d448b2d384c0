// Command workload is what tests run in pods: a static binary that needs nothing but the kernel.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const usage = `usage:
  workload pause                     does nothing until it is told to end
  workload write FILE                appends a line to FILE, five times a second
  workload say TEXT                  prints TEXT, then waits
  workload read FILE                 prints FILE
  workload put URL TEXT              puts TEXT at URL if nothing is there; prints the status
                                     (http://ACCESS:SECRET@host:port/bucket/key)
  workload put-each URL              puts an object at URL/<n>, for n = 1, 2, …, five times a second
  workload patch PATH JSON           sends a merge patch to the API server with the pod's token, once the object
                                     is there; prints the status and the answer
`

func main() {
	arguments := os.Args[1:]
	if len(arguments) == 0 {
		fail(usage)
	}
	switch name, rest := arguments[0], arguments[1:]; {
	case name == "pause" && len(rest) == 0:
		pause()
	case name == "say" && len(rest) == 1:
		fmt.Println(rest[0])
		pause()
	case name == "write" && len(rest) == 1:
		write(rest[0])
	case name == "read" && len(rest) == 1:
		content, err := os.ReadFile(rest[0])
		if err != nil {
			fail(err)
		}
		os.Stdout.Write(content)
	case name == "put" && len(rest) == 2:
		fmt.Println(put(rest[0], rest[1], true))
	case name == "put-each" && len(rest) == 1:
		for n := 1; ; n++ {
			fmt.Println(put(fmt.Sprintf("%s/%d", rest[0], n), "x", false))
			time.Sleep(200 * time.Millisecond)
		}
	case name == "patch" && len(rest) == 2:
		patch(rest[0], rest[1])
	default:
		fail(usage)
	}
}

func fail(what any) {
	fmt.Fprintln(os.Stderr, what)
	os.Exit(2)
}

func pause() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-end
}

// write does not end by SIGTERM: only the death of the process ends it.
func write(path string) {
	signal.Ignore(syscall.SIGTERM)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	if err != nil {
		fail(err)
	}
	for {
		if _, err := fmt.Fprintln(file, time.Now().Format(time.RFC3339Nano)); err != nil {
			fail(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func put(url, text string, ifAbsent bool) string {
	request, err := http.NewRequest(http.MethodPut, url, bytes.NewReader([]byte(text)))
	if err != nil {
		fail(err)
	}
	if ifAbsent {
		request.Header.Set("If-None-Match", "*")
	}
	sign(request, []byte(text))
	response, err := (&http.Client{Timeout: 2 * time.Second}).Do(request)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return fmt.Sprint(response.StatusCode)
}

// sign signs a request to the object store (AWS Signature Version 4) with the keys in its URL.
func sign(request *http.Request, body []byte) {
	access := request.URL.User.Username()
	secret, _ := request.URL.User.Password()
	request.URL.User = nil
	now := time.Now().UTC()
	moment, day := now.Format("20060102T150405Z"), now.Format("20060102")
	hash := func(content []byte) string {
		sum := sha256.Sum256(content)
		return hex.EncodeToString(sum[:])
	}
	mac := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	payload := hash(body)
	request.Header.Set("X-Amz-Date", moment)
	request.Header.Set("X-Amz-Content-Sha256", payload)
	const signed = "host;x-amz-content-sha256;x-amz-date"
	canonical := fmt.Sprintf("%s\n%s\n\nhost:%s\nx-amz-content-sha256:%s\nx-amz-date:%s\n\n%s\n%s",
		request.Method, request.URL.EscapedPath(), request.URL.Host, payload, moment, signed, payload)
	scope := day + "/us-east-1/s3/aws4_request"
	text := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%s", moment, scope, hash([]byte(canonical)))
	key := []byte("AWS4" + secret)
	for _, part := range []string{day, "us-east-1", "s3", "aws4_request"} {
		key = mac(key, part)
	}
	request.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%s",
		access, scope, signed, hex.EncodeToString(mac(key, text))))
}

func patch(path, body string) {
	const account = "/var/run/secrets/kubernetes.io/serviceaccount/"
	token, err := os.ReadFile(account + "token")
	if err != nil {
		fail(err)
	}
	ca, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		fail(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	address := "https://" + os.Getenv("KUBERNETES_SERVICE_HOST") + path
	for start := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		request, err := http.NewRequest(http.MethodPatch, address, bytes.NewReader([]byte(body)))
		if err != nil {
			fail(err)
		}
		request.Header.Set("Authorization", "Bearer "+string(token))
		request.Header.Set("Content-Type", "application/merge-patch+json")
		response, err := client.Do(request)
		if err != nil {
			fail(err)
		}
		answer, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusNotFound || time.Since(start) > 2*time.Minute {
			fmt.Println(response.StatusCode, string(answer))
			return
		}
	}
}
