package reward

import "expo/lm/generate"

// Finished reports whether an answer ended by itself, with the model's end token
// or at a stop string, and was not cut off.
func Finished(r generate.Response) bool { return r.FinishReason == generate.Stop }
