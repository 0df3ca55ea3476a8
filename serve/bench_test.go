package serve

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// BenchmarkServing measures what serving costs by a model that costs nearly
// nothing: 16 clients, answers of 200 tokens.
func BenchmarkServing(b *testing.B) {
	_, url := testServer(b, nil)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	for _, stream := range []string{"true", "false"} {
		b.Run("stream="+stream, func(b *testing.B) {
			for b.Loop() {
				var wg sync.WaitGroup
				for range 16 {
					wg.Go(func() {
						r, err := client.Post(url+"/v1/completions", "", strings.NewReader(`{"model":"sft","prompt":"hello","max_tokens":200,"ignore_eos":true,"stream":`+stream+`}`))
						if err != nil {
							b.Error(err)
							return
						}
						io.Copy(io.Discard, r.Body)
						r.Body.Close()
					})
				}
				wg.Wait()
			}
			b.ReportMetric(float64(b.N)*16*200/b.Elapsed().Seconds(), "tokens/s")
		})
	}
}
