import { UnstyledButton } from "@mantine/core";
import { Mark } from "@/app/Mark";
import { useText } from "@/i18n";
import classes from "./Conversation.module.css";

/** Where a conversation has not begun. */
export function Greeting({ onChosen }: { onChosen: (starter: string) => void }) {
  const text = useText();
  return (
    <div className={classes.greeting}>
      <Mark size={44} />
      <h1>{text.chat.greeting}</h1>
      <p>{text.chat.greetingMore}</p>
      <ul>
        {text.chat.starters.map((starter) => (
          <li key={starter}>
            <UnstyledButton className={classes.starter} onClick={() => onChosen(starter)}>
              {starter}
            </UnstyledButton>
          </li>
        ))}
      </ul>
    </div>
  );
}
