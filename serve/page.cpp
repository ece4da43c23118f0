#include "serve/page.h"

namespace mblm {

const char* const page = R"html(<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MBLM</title>
<link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; --line: #8886; --soft: #8882; --accent: #2563eb; }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1.5rem 1rem; }
  header { display: flex; align-items: baseline; gap: .75rem; flex-wrap: wrap; }
  h1 { font-size: 1.3rem; margin: 0; }
  #model, #status { color: #777; font-size: .9rem; }
  textarea, input { font: inherit; color: inherit; background: transparent; border: 1px solid var(--line); border-radius: 6px; padding: .5rem .6rem; box-sizing: border-box; }
  textarea { width: 100%; min-height: 7rem; margin-top: 1rem; resize: vertical; font-family: ui-monospace, monospace; font-size: .95rem; }
  fieldset { border: 0; padding: 0; margin: .75rem 0; display: grid; grid-template-columns: repeat(auto-fill, minmax(7.5rem, 1fr)); gap: .6rem; align-items: end; }
  [hidden] { display: none !important; }
  label { font-size: .8rem; color: #777; display: block; }
  label input { width: 100%; color: CanvasText; font-size: .95rem; }
  button { font: inherit; border: 0; border-radius: 6px; padding: .5rem 1.2rem; background: var(--accent); color: white; cursor: pointer; }
  button:disabled { opacity: .45; cursor: default; }
  #stop { background: #777; }
  .bar { display: flex; gap: .6rem; align-items: center; flex-wrap: wrap; }
  #output { white-space: pre-wrap; overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: .95rem; background: var(--soft); border-radius: 6px; padding: .8rem; min-height: 8rem; margin-top: 1rem; }
  #output .prompt { color: #777; }
  #error { color: #c22; }
</style>
<header><h1>MBLM</h1><span id="model"></span></header>
<form id="form">
  <textarea id="prompt" aria-label="Prompt" placeholder="Text to continue" autofocus></textarea>
  <fieldset>
    <label>Bytes <input id="max_tokens" type="number" min="1" value="200"></label>
    <label>Temperature <input id="temperature" type="number" min="0" step="any" value="0.8"></label>
    <label>Top p <input id="top_p" type="number" min="0" max="1" step="any" value="1"></label>
    <label>Top k <input id="top_k" type="number" min="0" value="0"></label>
    <label>Seed <input id="seed" type="number" min="0" placeholder="random"></label>
    <label>Stop at <input id="stop_text" type="text"></label>
    <label id="key_label" hidden>Key <input id="key" type="password" autocomplete="off"></label>
  </fieldset>
  <div class="bar"><button id="go">Continue</button><button id="stop" type="button" disabled>Stop</button><span id="status" role="status"></span><span id="error" role="alert"></span></div>
</form>
<div id="output" aria-live="polite"></div>
<script>
'use strict';
const $ = id => document.getElementById(id);
let running = null;

function headers() {
  const all = {'Content-Type': 'application/json'};
  if ($('key').value) all.Authorization = 'Bearer ' + $('key').value;
  return all;
}

async function failure(response) {
  if (response.status === 401) $('key_label').hidden = false;
  try { return (await response.json()).error.message; } catch { return 'status ' + response.status; }
}

async function describe() {
  const response = await fetch('/v1/models', {headers: headers()});
  if (!response.ok) { await failure(response); return; }
  const model = (await response.json()).data[0];
  $('model').textContent = model.id + ', context of ' + model.context + ' bytes';
  $('max_tokens').max = model.max_tokens;
}

function request() {
  const body = {prompt: $('prompt').value, stream: true};
  for (const id of ['max_tokens', 'temperature', 'top_p', 'top_k', 'seed']) if ($(id).value !== '') body[id] = Number($(id).value);
  if ($('stop_text').value !== '') body.stop = $('stop_text').value;
  return body;
}

// Calls on_data with the text after each "data: ".
async function read_events(stream, on_data) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    text += value;
    const events = text.split('\n\n');
    text = events.pop();
    for (const event of events) if (event.startsWith('data: ')) on_data(event.slice(6));
  }
}

function size_of(base64) { return base64.length / 4 * 3 - (base64.match(/=*$/)[0].length); }

async function run() {
  $('error').textContent = '';
  $('status').textContent = '';
  const shown = document.createElement('span'), before = document.createElement('span');
  before.className = 'prompt';
  before.textContent = $('prompt').value;
  $('output').replaceChildren(before, shown);
  running = new AbortController();
  $('go').disabled = true;
  $('stop').disabled = false;
  const start = performance.now();
  let bytes = 0, reason = null, ended = false;
  try {
    const response = await fetch('/v1/completions', {method: 'POST', headers: headers(), body: JSON.stringify(request()), signal: running.signal});
    if (!response.ok) throw new Error(await failure(response));
    await read_events(response.body, data => {
      if (data === '[DONE]') { ended = true; return; }
      const part = JSON.parse(data);
      if (part.error) throw new Error(part.error.message);
      for (const choice of part.choices) {
        shown.append(choice.text);
        bytes += size_of(choice.text_base64);
        reason = choice.finish_reason ?? reason;
      }
      const seconds = (performance.now() - start) / 1000;
      $('status').textContent = bytes + ' bytes, ' + Math.round(bytes / seconds) + ' per second';
    });
    if (!ended) throw new Error('the connection was closed');
    $('status').textContent += reason === 'stop' ? ', stopped at the text' : ', done';
  } catch (error) {
    if (error.name === 'AbortError') $('status').textContent += ', stopped'; else $('error').textContent = error.message;
  }
  running = null;
  $('go').disabled = false;
  $('stop').disabled = true;
}

$('form').addEventListener('submit', event => { event.preventDefault(); if (!running) run(); });
$('stop').addEventListener('click', () => running?.abort());
$('prompt').addEventListener('keydown', event => { if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) $('form').requestSubmit(); });
$('key').addEventListener('change', describe);
describe();
</script>
</html>
)html";

}  // namespace mblm
