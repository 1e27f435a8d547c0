import { Button, Code, Modal, PasswordInput, Stack, Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { type FormEvent, useState } from "react";
import { apiKey, keyWanted } from "@/api/access";
import { useText } from "@/i18n";
import { useStore } from "./store";

/** Asks for the API key when the server wants one. */
export function KeyPrompt() {
  const text = useText();
  const wanted = useStore(keyWanted);
  const queries = useQueryClient();
  const [typed, setTyped] = useState("");

  const use = (event: FormEvent) => {
    event.preventDefault();
    if (typed.trim() === "") return;
    apiKey.set(typed.trim());
    keyWanted.set("no");
    setTyped("");
    void queries.resetQueries();
  };

  return (
    <Modal
      opened={wanted !== "no"}
      onClose={() => keyWanted.set("no")}
      title={text.key.title}
      closeButtonProps={{ "aria-label": text.app.close }}
    >
      <form onSubmit={use}>
        <Stack gap="sm">
          <Text size="sm">{text.key.why}</Text>
          <PasswordInput
            label={text.key.label}
            value={typed}
            onChange={(event) => setTyped(event.currentTarget.value)}
            error={wanted === "wrong" ? text.key.wrong : undefined}
            autoComplete="off"
            data-autofocus
          />
          <Text size="sm" c="var(--page-faint)">
            {text.key.how} <Code>madang keys add NAME</Code>
          </Text>
          <Button type="submit" disabled={typed.trim() === ""}>
            {text.key.use}
          </Button>
        </Stack>
      </form>
    </Modal>
  );
}
