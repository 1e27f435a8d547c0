/** Every text of the page in English. The type of the other languages comes from here: a missing text does not compile. */
export const en = {
  app: {
    name: "madang",
    skip: "Skip to the content",
    navigation: "Screens",
    menu: "Open the menu",
    close: "Close",
    cancel: "Cancel",
    retry: "Try again",
    save: "Save",
    remove: "Delete",
    undo: "Undo",
    copy: "Copy",
    copied: "Copied",
    loading: "Loading …",
    notBuilt: "This screen is not here yet.",
    notFound: "There is no such screen.",
    toChat: "To the chat",
  },
  screens: {
    chat: "Chat",
    documents: "Documents",
    models: "Models",
    compare: "Compare",
    monitor: "Monitor",
    tokens: "Tokens",
    settings: "Settings",
  },
  server: {
    gone: "The server does not answer. Trying again by itself; nothing you wrote is lost.",
    stopping: "The server is stopping. The page goes on when it is back.",
    back: "The server is back.",
    unreachable: "The server does not answer.",
    unreachableNext: "Start it with: madang serve",
    history: "Conversations may not be kept now.",
  },
  failure: {
    title: "That did not work",
    crashed: "This part of the page failed",
    crashedNext: "What you wrote is kept. Load the page again, or go on with another screen.",
    reload: "Load again",
    details: "Details",
    request: (id: string) => `Request ${id}`,
  },
  key: {
    title: "This server wants a key",
    why: "It answers only those who have an API key. It is kept in this tab until you close it, and nowhere else.",
    label: "API key",
    wrong: "The server does not know this key.",
    use: "Use it",
    how: "Whoever runs the server makes one with:",
    forget: "Forget the key",
    has: "A key is in use in this tab.",
    none: "No key is in use.",
  },
  settings: {
    language: "Language",
    browser: "As the browser",
    look: "Appearance",
    light: "Light",
    dark: "Dark",
    auto: "As the system",
    shortcuts: "Keyboard",
    server: "Server",
    version: "Version",
    machine: "Machine",
    memory: (available: string, total: string) => `${available} of ${total} free`,
    cores: (n: number) => (n === 1 ? "1 core" : `${n} cores`),
    personas: "Personas",
    personasWhy: "A persona is a system prompt with a name; pick one for a conversation.",
    personaNew: "New persona",
    personaName: "Name",
    personaStyle: "Style",
    personaStyleHint: "How it speaks, in a few words",
    personaSystem: "System prompt",
    personaModel: "Model",
    personaNone: "No personas yet.",
    personaRemoved: (name: string) => `The persona “${name}” is deleted.`,
  },
  shortcuts: {
    newChat: "New chat",
    search: "Search conversations",
    stop: "Stop the answer",
    focus: "To the message field",
    send: "Send",
    newline: "New line",
    help: "This list",
    screen: "Change the screen",
  },
};

export type Text = Same<typeof en>;

type Same<T> = {
  [K in keyof T]: T[K] extends (...given: infer A) => string
    ? (...given: A) => string
    : T[K] extends string
      ? string
      : Same<T[K]>;
};
