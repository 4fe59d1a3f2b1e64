package greet

import "testing"

func TestGreet(t *testing.T) {
	if got, err := Greet("world"); err != nil || got != "hello world" {
		t.Fatal(got, err)
	}
	if _, err := Greet(""); err == nil {
		t.Fatal("greeted nobody")
	}
}
