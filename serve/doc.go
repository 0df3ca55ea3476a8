// Package serve answers OpenAI's HTTP API from models in this process, and
// shows a page on which the two ends of a pair and what lies beyond them answer
// side by side.
//
// Start at [New]: a [Server] is an http.Handler for one model, or for a pair
// and a dial. With a pair a request's model is "sft", "aligned", "expo", or
// "expo@0.3" for any α. Models at other α are made when they are asked for, in
// the memory of those that have not been used for longest, see [Pair].
//
// # Whose definition
//
// Requests and answers are those of OpenAI's API
// (https://platform.openai.com/docs/api-reference): /v1/chat/completions,
// /v1/completions, /v1/models. Fields that OpenAI does not have mean what they
// mean to vLLM (https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html):
// top_k, min_p, repetition_penalty, stop_token_ids, ignore_eos,
// continue_final_message, chat_template_kwargs, return_token_ids,
// structured_outputs (json, json_object, choice), guided_json and others. A field
// that would change the answer and is not supported is an error, never ignored.
// response_format takes the schemas that package grammar does, and keeps to them
// whether they are strict or not. /metrics is Prometheus' text format
// (https://prometheus.io/docs/instrumenting/exposition_formats/).
//
// # Promises
//
// An answer depends on its request alone, as package local promises. Answers
// are computed together, [Limits.Concurrent] at most, and as far as the engines'
// [local.Memory] has room for their keys and values; those that wait are taken in
// an order that shares the machine evenly between clients, by the tokens
// that each has had (Sheng et al., Fairness in Serving Large Language Models,
// OSDI 2024, https://arxiv.org/abs/2401.00588). When too many wait, the next is
// refused at once. A client that goes away frees what it held. No request
// names a file, brings a template, or chooses an address to connect to, and
// nothing of what people write is logged unless [Options.LogContent] says so.
package serve
