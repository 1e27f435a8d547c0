import "@mantine/core/styles/SegmentedControl.layer.css";
import { Button, Group, Kbd, SegmentedControl, Text, useMantineColorScheme } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { apiKey, keyWanted } from "@/api/access";
import { api, told } from "@/api/client";
import { SCREENS } from "@/app/screens";
import { keysOf, type Shortcut } from "@/app/shortcuts";
import { useStore } from "@/app/store";
import { Screen, Section } from "@/components/Screen";
import { chosenLanguage, LANGUAGES, type Language, useText } from "@/i18n";
import { Personas } from "./Personas";
import classes from "./settings.module.css";

export default function Settings() {
  const text = useText();
  return (
    <Screen title={text.screens.settings}>
      <Section title={text.settings.language}>
        <LanguageChoice />
      </Section>
      <Section title={text.settings.look}>
        <SchemeChoice />
      </Section>
      <Section title={text.settings.personas}>
        <Personas />
      </Section>
      <Section title={text.settings.server}>
        <ServerFacts />
      </Section>
      <Section title={text.settings.shortcuts}>
        <Shortcuts />
      </Section>
    </Screen>
  );
}

function LanguageChoice() {
  const text = useText();
  const chosen = useStore(chosenLanguage);
  const choices = Object.entries(LANGUAGES).map(([value, label]) => ({ value, label }));
  return (
    <SegmentedControl
      aria-label={text.settings.language}
      data={[{ value: "browser", label: text.settings.browser }, ...choices]}
      value={chosen ?? "browser"}
      onChange={(value) => chosenLanguage.set(value === "browser" ? null : (value as Language))}
    />
  );
}

function SchemeChoice() {
  const text = useText();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <SegmentedControl
      aria-label={text.settings.look}
      data={[
        { value: "auto", label: text.settings.auto },
        { value: "light", label: text.settings.light },
        { value: "dark", label: text.settings.dark },
      ]}
      value={colorScheme}
      onChange={(value) => setColorScheme(value as "auto" | "light" | "dark")}
    />
  );
}

function ServerFacts() {
  const text = useText();
  const key = useStore(apiKey);
  const version = useQuery({ queryKey: ["version"], queryFn: () => told(api.GET("/madang/v1/version")) });
  return (
    <div className={classes.facts}>
      <Text size="sm">
        {text.settings.version} {version.data?.version ?? "–"}
      </Text>
      <Group gap="sm">
        <Text size="sm">{key === null ? text.key.none : text.key.has}</Text>
        {key === null ? (
          <Button size="compact-sm" variant="default" onClick={() => keyWanted.set("missing")}>
            {text.key.label}
          </Button>
        ) : (
          <Button size="compact-sm" variant="default" onClick={() => apiKey.set(null)}>
            {text.key.forget}
          </Button>
        )}
      </Group>
    </div>
  );
}

function Shortcuts() {
  const text = useText();
  const rows: [Shortcut | string[], string][] = [
    ["mod+shift+o", text.shortcuts.newChat],
    ["mod+k", text.shortcuts.search],
    ["/", text.shortcuts.focus],
    ["escape", text.shortcuts.stop],
    [["Enter"], text.shortcuts.send],
    [["Shift", "Enter"], text.shortcuts.newline],
    [[...keysOf("alt+1"), "…", String(SCREENS.length)], text.shortcuts.screen],
  ];
  return (
    <dl className={classes.keys}>
      {rows.map(([keys, meaning]) => (
        <div key={meaning}>
          <dt>{meaning}</dt>
          <dd>
            {(Array.isArray(keys) ? keys : keysOf(keys)).map((key) =>
              key === "…" ? " … " : <Kbd key={key}>{key}</Kbd>,
            )}
          </dd>
        </div>
      ))}
    </dl>
  );
}
