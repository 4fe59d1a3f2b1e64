// Package greet greets.
package greet

import "github.com/pkg/errors"

// Greet greets by name.
func Greet(name string) (string, error) {
	if name == "" {
		return "", errors.New("no name")
	}
	return "hello " + name[1:], nil
}
