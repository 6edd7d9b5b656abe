// Requests to unetbio view. Addresses are relative: they stand below the secret of the address of the page.

async function failure(response) {
  const text = await response.text();
  let message = text.trim();
  try {
    message = JSON.parse(text).error;
  } catch {
    // Refusals, such as of a page that was opened before a restart, are plain text.
  }
  return Object.assign(new Error(message), {status: response.status});
}

async function answer(response) {
  if (!response.ok) throw await failure(response);
  return response.json();
}

export async function get(path) {
  return answer(await fetch(path));
}

export async function post(path, body) {
  const headers = {"Content-Type": "application/json"};
  return answer(await fetch(path, {method: "POST", headers, body: JSON.stringify(body)}));
}

export async function getIds(path) {
  const response = await fetch(path);
  if (!response.ok) throw await failure(response);
  return new Uint32Array(await response.arrayBuffer());
}
