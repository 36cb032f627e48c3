// Prints the bytes of RSS that each of N idle go-caches takes, its janitor's goroutine included.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	cache "github.com/patrickmn/go-cache"
)

func rss() int {
	var size, resident int
	statm, err := os.Open("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	defer statm.Close()
	if _, err := fmt.Fscan(statm, &size, &resident); err != nil {
		panic(err)
	}
	return resident * os.Getpagesize()
}

func main() {
	count, err := strconv.Atoi(os.Args[1])
	if err != nil {
		panic(err)
	}
	runtime.GC()
	before := rss()
	caches := make([]*cache.Cache, count)
	for i := range caches {
		caches[i] = cache.New(5*time.Minute, time.Minute)
	}
	time.Sleep(time.Second)
	runtime.GC()
	used := rss() - before
	runtime.KeepAlive(caches)
	json.NewEncoder(os.Stdout).Encode(map[string]float64{"bytes": float64(used) / float64(count)})
}
