// Starts `neurosym lsp` and lets vscode-languageclient do the rest.
"use strict";

const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function activate() {
  const settings = workspace.getConfiguration("neurosym");
  const [command, ...args] = settings.get("command");
  const cwd = workspace.workspaceFolders?.[0]?.uri.fsPath;
  client = new LanguageClient(
    "neurosym",
    "neurosym",
    { command, args, options: { cwd } },
    {
      documentSelector: [
        { language: "neurosym-rules" },
        { language: "turtle" },
        { scheme: "file", pattern: "**/*.{owl,rdf,nt,obo,ofn,omn,owx}" },
      ],
      initializationOptions: { ontologies: settings.get("ontologies") },
      synchronize: { configurationSection: "neurosym" },
    },
  );
  await client.start();
}

function deactivate() {
  return client?.stop();
}

module.exports = { activate, deactivate };
