package main

import (
	"fmt"
	"os"

	"example.invalid/greeter/greet"
)

func main() {
	text, err := greet.Greet("you")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(text)
}
